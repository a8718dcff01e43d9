"""Steps that every target has: read the source, build the canonical graph, run the reference,
verify the result.

Each is a function of a `StepContext`; heavy packages are imported when it runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from modelc.errors import BadInput, Where
from modelc.pipeline.step import StepContext

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH: Final = "graph.onnx"
CONFIG: Final = "config.json"
FACTS: Final = "facts.json"
IR: Final = "ir"  # text forms of the graph after each pass, in a lowering step's result
VERIFICATION: Final = "verification.json"
VERIFICATION_DATA: Final = "verification.npz"

# Where nothing is said: long enough for most uses, short enough for a static cache on a phone.
DEFAULT_CONTEXT: Final = 4096

# Reference logits ship with the bundle, so that it can be verified anywhere; this bounds them.
REFERENCE_BYTES: Final = 32 << 20


def import_source(context: StepContext) -> None:
    """Read the source's configuration and tokenizer: config.json, tokenizer files."""
    from modelc.bundle.tokenizer import save_tokenizer
    from modelc.decoder.config import save_config
    from modelc.frontends import read_source

    source = read_source(context.source)
    save_tokenizer(source.tokenizer, context.out)
    save_config(source.config, context.out / CONFIG)


def build_canonical(context: StepContext) -> None:
    """Build the canonical graph: graph.onnx, its weights referring to the source; facts.json with
    the sizes that a runtime must know.

    Options: context_length (0: the model's own, at most DEFAULT_CONTEXT), sliding_window (in place
    of the model's own).
    """
    from modelc.decoder.builder import build_decoder
    from modelc.decoder.config import with_window
    from modelc.frontends import read_model
    from modelc.ir.serial import save_graph

    model = with_window(read_model(context.source), context.options.get("sliding_window"))
    config = model.config
    length = context.options["context_length"] or min(config.max_context, DEFAULT_CONTEXT)
    save_graph(build_decoder(model, length), context.out / GRAPH, source_root(context))
    facts = {
        "context_length": length,
        "vocab_size": config.vocab_size,
        "layers": config.layers,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
    }
    (context.out / FACTS).write_text(json.dumps(facts, indent=1) + "\n")


def run_reference(context: StepContext) -> None:
    """Run the float model on the verification text: verification.npz with `token_ids` int32 [n]
    and `logits` float32 [n, vocab].

    Options: tokens (at most; also bounded by the context and by REFERENCE_BYTES).
    """
    from modelc.quant.zero_channels import ZeroChannels
    from modelc.reference.stream import StreamedReference

    facts = read_facts(context)
    limit = min(
        context.options["tokens"],
        facts["context_length"],
        max(2, REFERENCE_BYTES // (4 * facts["vocab_size"])),
    )
    if limit < 2:
        raise BadInput(f"a context of {limit} token has nothing to verify")
    token_ids = text_tokens(context, "verify_text")[:limit]
    if len(token_ids) < 2:
        raise BadInput(
            "the verification text has fewer than two tokens",
            where=Where(path=str(context.sources["verify_text"])),
        )
    zeros = ZeroChannels()
    logits = StreamedReference(canonical_graph(context), look=zeros.look).logits(token_ids)
    for line in zeros.lines():
        context.log(line)
    if not np.isfinite(logits).all():
        raise BadInput(
            "the float model computes NaN or infinity",
            where=Where(path=str(context.source)),
            hint="the source's weights are damaged, or its configuration is not theirs",
        )
    np.savez(
        context.out / VERIFICATION_DATA, token_ids=np.asarray(token_ids, np.int32), logits=logits
    )


def verify_result(context: StepContext) -> None:
    """Run the compiled model on the verification text: verification.json, whatever the verdict.

    Options: family, target, settings (the family's), recipe (its scheme and [verify] section).
    """
    from modelc.pipeline.plans import FAMILIES
    from modelc.pipeline.verify import open_runtime, thresholds_of, verify_runtime

    family = context.options["family"]
    files = FAMILIES[family].files_of_steps(context.inputs)
    settings = {**read_facts(context), **context.options["settings"]}
    runtime = open_runtime(family, files, settings)
    try:
        verification = verify_runtime(
            runtime,
            context.options["target"],
            context.inputs["reference"] / VERIFICATION_DATA,
            thresholds_of(context.options["recipe"]),
        )
    finally:
        runtime.close()
    document = json.dumps(verification.document(), indent=1, allow_nan=False)
    (context.out / VERIFICATION).write_text(document + "\n")


def canonical_graph(context: StepContext) -> ir.Model:
    """Load the canonical graph that the step `canonical` built, or what algorithms made of it for
    the steps behind `weights`."""
    from modelc.ir.serial import load_graph

    made = "weights" if "weights" in context.inputs else "canonical"
    return load_graph(context.inputs[made] / GRAPH, *weight_roots(context))


def source_root(context: StepContext) -> Path:
    """Return the folder that the source's files lie in."""
    return context.source if context.source.is_dir() else context.source.parent


def weight_roots(context: StepContext) -> tuple[Path, ...]:
    """Return the folders that a graph's weights lie in: the source, and where algorithms put what
    they made."""
    made = context.inputs.get("weights")
    return (source_root(context), *([made] if made else []))


def read_facts(context: StepContext) -> dict[str, int]:
    """Return what the step `canonical` wrote beside the graph."""
    facts: dict[str, int] = json.loads((context.inputs["canonical"] / FACTS).read_text())
    return facts


def text_tokens(context: StepContext, name: str) -> list[int]:
    """Return the token ids of a text file that the step reads, by its declared name."""
    from modelc.bundle.tokenizer import load_tokenizer

    path = context.sources[name]
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput("not a UTF-8 text", where=Where(path=str(path))) from error
    return load_tokenizer(context.inputs["import"]).encode(text)
