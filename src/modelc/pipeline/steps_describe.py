"""The last step before verification: what is known of all binaries, and a runtime's files."""

from __future__ import annotations

import json
from typing import Any, Final

from modelc.bundle.tokenizer import TOKENIZER, load_tokenizer
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import CONFIG
from modelc.pipeline.steps_binaries import ATTENTION, INFO, PROOF, read_rotary, write_json
from modelc.targets.snapdragon.binary import from_json

GENIE_CONFIG: Final = "genie_config.json"


def describe_binaries(context: StepContext) -> None:
    """Join what is known of all parts, and write the files by which a runtime takes them:
    binary.json, proof.json; for "genie" genie_config.json, which Genie itself checks,
    htp_backend_ext_config.json and a sample prompt; for "ort" ort_pipeline.json.

    Options: chipset, context_length, parts, format.

    Raises:
        ModelcError: what one part gives is not what the next one takes.
    """
    from modelc.targets.snapdragon.chain import check_chain
    from modelc.targets.snapdragon.ort_form import write_ort_form

    folders = [context.inputs[f"generate_context_binary.{p}"] for p in context.options["parts"]]
    rows: dict[str, Any] = {}
    proofs = dict(json.loads((context.inputs["attention"] / ATTENTION).read_text())["proofs"])
    for folder in folders:
        rows |= json.loads((folder / INFO).read_text())
        proofs |= json.loads((folder / PROOF).read_text())
    write_json(context.out / INFO, rows)
    write_json(context.out / PROOF, proofs)
    infos = {name: from_json(row) for name, row in rows.items()}
    check_chain(list(infos.values()))
    if "genie" in context.options["format"]:
        _write_genie_files(context, list(infos))
    if "ort" in context.options["format"]:
        wrappers = [path for folder in folders for path in sorted(folder.glob("*.onnx"))]
        write_ort_form(wrappers, infos, read_rotary(context), context.out)


def _write_genie_files(context: StepContext, binaries: list[str]) -> None:
    from modelc.decoder.config import load_config
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.genie import check_genie_config
    from modelc.targets.snapdragon.genie_config import (
        EXTENSION_FILE,
        extension_config,
        genie_config,
        genie_model,
    )
    from modelc.targets.snapdragon.genie_prompt import SAMPLE_PROMPT, genie_bos, sample_prompt

    tokenizer = load_tokenizer(context.inputs["import"]).data
    model = genie_model(
        load_config(context.inputs["import"] / CONFIG),
        context_length=context.options["context_length"],
        binaries=binaries,
        eos_ids=tokenizer.eos_ids,
        bos_id=genie_bos(tokenizer),
        tokenizer=TOKENIZER,
    )
    config = genie_config(model)
    check_genie_config(config, workdir=context.scratch / "genie")
    write_json(context.out / GENIE_CONFIG, config)
    extension = extension_config(find_chipset(context.options["chipset"]))
    write_json(context.out / EXTENSION_FILE, extension)
    (context.out / SAMPLE_PROMPT).write_text(sample_prompt(tokenizer), encoding="utf-8")
