"""The steps that try kinds of weights: the float model and the quantised one, simulated, read the
same text, long enough that a percent of perplexity means something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelc.pipeline.job import CALIBRATION_TEXT, VERIFY_TEXT
from modelc.pipeline.rounded_graph import rounded_graph
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import REFERENCE_BYTES, canonical_graph, read_facts, text_tokens

if TYPE_CHECKING:
    pass

FLOAT_LOGITS: Final = "logits.npy"
SEQUENCES: Final = "sequences.json"
TRIAL: Final = "trial.json"

# Float logits are kept for all trials; this bounds them.
_MOST_BYTES: Final = 1 << 30


def run_float(context: StepContext) -> None:
    """Run the float model on a text: sequences.json with its tokens, logits.npy float32
    [all tokens, vocab].

    The text is the one that the bundle will be verified on; where that is less than half of the
    tokens, what the ranges are gathered on follows. It is cut into sequences that don't overlap.

    Options: tokens (at most), window (tokens of a sequence).
    """
    from modelc.bundle.tokenizer import load_tokenizer
    from modelc.reference.stream import StreamedReference

    facts, options = read_facts(context), context.options
    most = min(options["tokens"], max(2, _MOST_BYTES // (4 * facts["vocab_size"])))
    tokens = text_tokens(context, VERIFY_TEXT)
    if len(tokens) < most // 2 and CALIBRATION_TEXT in context.sources:
        tokens += text_tokens(context, CALIBRATION_TEXT)
    data = load_tokenizer(context.inputs["import"]).data
    start = [data.bos_id] if data.add_bos and data.bos_id is not None else []
    window = min(options["window"], facts["context_length"])
    sequences = list(cut_text(tokens[:most], window, start))
    rows = sum(map(len, sequences))
    logits = np.lib.format.open_memmap(
        context.out / FLOAT_LOGITS, "w+", np.float32, (rows, facts["vocab_size"])
    )
    done = 0
    for found in StreamedReference(canonical_graph(context)).logits_of(sequences):
        logits[done : done + len(found)] = found
        done += len(found)
    logits.flush()
    (context.out / SEQUENCES).write_text(json.dumps(sequences))


def cut_text(tokens: list[int], window: int, start: list[int]) -> Iterator[list[int]]:
    """Yield sequences of at most `window` tokens; the first begins as the text does."""
    yield tokens[:window]
    room = max(1, window - len(start))
    for first in range(window, len(tokens) - 1, room):  # of a last token alone nothing follows
        yield [*start, *tokens[first : first + room]]


def try_kinds(context: StepContext) -> None:
    """Run the model with weights of these kinds, simulated: trial.json with what they cost over the
    whole `text`, and over the beginning that a bundle is `verified` on.

    Options: kinds (module -> kind; what has none stays float), activations (as `passes.simulate`
        has it), verified (how many tokens).
    """
    from modelc.reference.stream import StreamedReference
    from modelc.verify.evaluate import Window, evaluate_windows
    from modelc.verify.report import measure

    folder = context.inputs["float_logits"]
    sequences: list[list[int]] = json.loads((folder / SEQUENCES).read_text())
    ends = np.cumsum([len(sequence) for sequence in sequences]).tolist()
    parts = [
        Window(end - len(s), end, end - len(s) + 1) for s, end in zip(sequences, ends, strict=True)
    ]
    expected = np.load(folder / FLOAT_LOGITS, mmap_mode="r")
    beginning: list[np.ndarray] = []
    rounded = rounded_graph(
        canonical_graph(context),
        context.inputs.get("encodings"),
        weights=context.options["kinds"],
        activations=context.options["activations"],
    )
    most = min(context.options["verified"], max(2, REFERENCE_BYTES // expected[0].nbytes))

    def found() -> Iterator[np.ndarray]:
        for logits in StreamedReference(rounded).logits_of(sequences):
            if not beginning:
                beginning.append(logits[:most].copy())
            yield logits

    evaluation = evaluate_windows(
        [token for sequence in sequences for token in sequence],
        parts,
        found(),
        (expected[part.start : part.stop] for part in parts),
        progress=lambda done, total: context.progress(done / total, "tokens"),
    )
    count = len(beginning[0])
    metrics = measure(expected[:count], beginning[0], sequences[0][:count])
    assert evaluation.float_model
    whole = _figures(
        evaluation.perplexity, evaluation.float_model.perplexity, evaluation.float_model
    )
    start = _figures(metrics.bundle_perplexity, metrics.reference_perplexity, metrics)
    document = {
        "text": {**whole, "tokens": evaluation.tokens},
        "verified": {**start, "tokens": count},
    }
    (context.out / TRIAL).write_text(json.dumps(document, indent=1) + "\n")


def _figures(perplexity: float, float_perplexity: float, distance: Any) -> dict[str, Any]:
    """Return figures as JSON has them; what is not finite, as of equal logits, is None."""
    from modelc.verify.report import finite

    return {
        "perplexity": finite(perplexity),
        "float_perplexity": finite(float_perplexity),
        "perplexity_ratio": finite(perplexity / float_perplexity),
        "kl_divergence": finite(distance.kl_divergence),
        "sqnr_db": finite(distance.sqnr_db),
    }
