"""The graph that the card's compiler is given, of a decoder."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderModel
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.passes.qaic.options import QaicGraphOptions
from modelc.passes.qaic.repeat_heads import repeat_kv_heads


def build_card_graph(
    source: DecoderModel,
    context_length: int,
    options: QaicGraphOptions | None = None,
    dump_dir: Path | None = None,
) -> ir.Model:
    """Return a decoder's graph under the card's contract, for at most `context_length` positions.

    Inputs `input_ids`, `position_ids` int64 [batch_size, seq_len] (position -1 is padding),
    `past_key.i`, `past_value.i` float32 [batch_size, kv_heads, ctx_len, head_dim]; outputs `logits`
    float32 [batch_size, rows, vocab] and the caches as `past_key.i_RetainedState`, ...; what
    `options` add is said there. No weight is decoded. `dump_dir` is `run_passes`'s.

    Raises:
        BadInput: as `build_decoder`.
    """
    options = options or QaicGraphOptions()
    model = build_decoder(repeat_kv_heads(source, options.repeat_kv_heads), context_length)
    settings = {
        "continuous_batching": options.continuous_batching,
        "comp_ctx_lengths": options.comp_ctx_lengths,
        "num_logits_to_keep": options.num_logits_to_keep,
        "adapters": options.adapters,
        "max_top_k": options.max_top_k,
        "opset": options.opset,
    }
    passes = build_pipeline("qaic", settings)
    lowered, _ = run_passes(model, passes, graph="qaic", dump_dir=dump_dir)
    return lowered
