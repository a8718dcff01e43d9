"""modelc in `networks`, as a worker, so that its start counts as the peer's does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from worker import serve

import modelc
from modelc.pipeline.memory import PeakMemory
from modelc.pipeline.store import Store

PROOF: Final = "verify"
LENIENT: Final = {"min_sqnr_db": -100.0, "min_cosine": -1.0}


def compile(model: str, folder: str, target: str, data: str, samples: int, quant: str) -> Any:
    """Compile with an empty store into FOLDER/bundle, whatever the verdict; say how long the proof
    took, and how much memory and how large the binary is."""
    with PeakMemory() as memory:
        bundle = modelc.compile(
            Path(model),
            target=target,
            quant=quant,
            calibration={} if quant == "fp16" else {"data": Path(data), "samples": samples},
            verify={"data": Path(data), "samples": 1, **LENIENT},
            output=Path(folder, "bundle"),
            store=Store(Path(folder, "store")),
        )
    assert isinstance(bundle, modelc.NetworkBundle) and bundle.report is not None
    size = sum(file.size for name, file in bundle.manifest.files.items() if name.endswith(".bin"))
    proof = sum(step.seconds for step in bundle.report.steps if step.name == PROOF)
    return {"proof_seconds": proof, "peak_mb": memory.mb, "mb": size / 2**20}


if __name__ == "__main__":
    serve({"compile": compile})
