"""One file for Qualcomm's tools of one model: a DLC, a context binary, or C++ source."""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.errors import BadInput, nearest
from modelc.pipeline.compile import compile_source
from modelc.pipeline.events import Events, ignore
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.network.inputs import network_inputs
from modelc.pipeline.network.job import is_network
from modelc.pipeline.network.steps_htp import NAME, TAIL
from modelc.pipeline.store import Store
from modelc.quant.feeds import read_loader
from modelc.quant.network.schemes import scheme_of_bits
from modelc.targets.snapdragon.chipsets import chipsets
from modelc.targets.snapdragon.network.backends import Format, delivery, find_backend
from modelc.targets.snapdragon.wrapper import retarget

CHECKED_ON: Final = "snapdragon-8-elite"
"""The chipset whose operators a DLC or source is checked against, if none is named."""

_SUFFIXES: Final[Mapping[str, Format]] = {".dlc": "dlc", ".bin": "context-binary", ".cpp": "cpp"}
_FILES: Final[Mapping[Format, str]] = {
    "dlc": f"{NAME}.dlc",
    "context-binary": f"{NAME}.bin",
    "cpp": "saver_output.c",
}
_WEIGHTS: Final = "params.bin"
_QUANTIZATION: Final = ("enabled", "calibration_data", "act_bitwidth", "weights_bitwidth",
                        "per_channel", "symmetric", "random_feeds")  # fmt: skip


class QNNCompiler:
    """Compiles models that are no decoders for a backend of QNN.

    Args:
        backend: "HTP", "GPU" or "CPU"; what the last two take can't be prepared without a device,
            so they get a DLC, and a warning says so.
    """

    def __init__(self, backend: str = "HTP", *, store: Store | None = None) -> None:
        self._backend = find_backend(backend)
        self._store = store or Store()

    def compile(
        self,
        source: str | Path,
        output: str | Path | None = None,
        *,
        output_format: str | None = None,
        quantization: Mapping[str, Any] | None = None,
        target_device: str | None = None,
        dims: Mapping[str, int] | None = None,
        events: Events = ignore,
        **options: Any,
    ) -> Path:
        """Compile a model, prove it in the HTP simulator, and write what was asked for.

        Args:
            source: an .onnx file, an exported program (.pt2), "FILE.py:FUNCTION", or an encoder's
                folder.
            output: the file; by default the source's name with the format's suffix. Beside a
                context binary comes the ONNX model that loads it, beside source its weights; and
                tail.onnx, where a network's end is the CPU's (`network_allow_cpu_fallback`).
            output_format: "dlc", "context-binary" or "cpp"; by default what `output` ends with.
            quantization: `enabled`, `calibration_data` (a path, or an iterable of samples),
                `act_bitwidth` (8 or 16), `weights_bitwidth` (4 or 8), `per_channel`, `symmetric`,
                `random_feeds` (made-up samples, for want of data).
            target_device: a chipset by any of its names: "Snapdragon 8 Gen 3".
            dims: sizes that the model leaves open.
            options: fields of `pipeline.recipe.Recipe` beside these.

        Returns:
            The file.

        Raises:
            BadInput: what was asked for can't be.
            BelowThreshold: the result is too far from the float model; nothing is written.
            ModelcError: see `errors`.
        """
        path = Path(source)
        if not is_network(path):
            raise BadInput(
                "QNNCompiler takes models that are no decoders",
                hint="give an .onnx or a .pt2 file, FILE.py:FUNCTION or an encoder's folder; "
                "language models go through modelc.compile",
            )
        wanted = _format(output_format, output)
        delivered = delivery(self._backend, wanted)
        if delivered.note:
            warnings.warn(delivered.note, stacklevel=2)
        device = find_device(target_device) if target_device else self._default(delivered.format)
        target = Path(output) if output is not None else _beside(path, delivered.format)
        if delivered.note and target.suffix in _SUFFIXES:
            target = target.with_suffix(f".{delivered.format}")
        given: dict[str, Any] = {"target": device, "format": [delivered.format], **options}
        if dims:
            given["network_dims"] = dict(dims)
        with tempfile.TemporaryDirectory(prefix="modelc-") as scratch:
            given |= self._quantisation(path, quantization or {}, given, Path(scratch))
            bundle = Path(scratch, "bundle")
            compile_source(path, make_recipe(None, given), bundle, store=self._store, events=events)
            _take(bundle / device, delivered.format, target)
        return target

    def _default(self, wanted: Format) -> str:
        if wanted == "context-binary":
            raise BadInput(
                "a context binary is for one chipset",
                hint='name it: target_device="Snapdragon 8 Gen 3" (`--device`)',
            )
        warnings.warn(
            f"no device is named: operators are checked against {CHECKED_ON}", stacklevel=3
        )
        return CHECKED_ON

    def _quantisation(
        self, source: Path, asked: Mapping[str, Any], given: Mapping[str, Any], scratch: Path
    ) -> dict[str, Any]:
        """Return the recipe's options for what is asked."""
        for key in asked:
            if key not in _QUANTIZATION:
                raise BadInput(f"quantization has no {key}", hint=nearest(key, _QUANTIZATION))
        if not asked.get("enabled", bool(asked)):
            return {}
        weights, activations = (asked.get(f"{kind}_bitwidth", 8) for kind in ("weights", "act"))
        options: dict[str, Any] = {"quant": scheme_of_bits(weights, activations).name}
        if not asked.get("per_channel", True):
            options["network_per_tensor"] = True
        if asked.get("symmetric"):
            options["network_symmetric"] = True
        if asked.get("random_feeds"):
            options["network_random_feeds"] = asked["random_feeds"]
        data = asked.get("calibration_data")
        if isinstance(data, str | Path):
            options["calibration_data"] = data
        elif data is not None:
            plain = make_recipe(None, {k: v for k, v in given.items() if k != "format"})
            specs = network_inputs(source, plain, self._store)
            options["calibration_data"] = _as_npz(read_loader(data, specs), scratch)
        return options


def find_device(name: str) -> str:
    """Return the chipset of a name as people write it: "Snapdragon 8 Gen 3", "snapdragon_8_gen3".

    Raises:
        BadInput: nothing is called so.
    """
    known: dict[str, str] = {}
    rows = chipsets().values()
    # Of chipsets that are sold under one name the first one is meant; what they are called here
    # goes before that.
    for row in rows:
        known |= {_plain(own): own for own in (row.name, *row.aliases)}
    for row in rows:
        known.setdefault(_plain(row.marketing_name), row.name)
    plain = _plain(name)
    for candidate in (plain, f"snapdragon{plain}", f"qualcomm{plain}"):
        if candidate in known:
            return known[candidate]
    raise BadInput(f"no device is called {name!r}", hint=nearest(name, chipsets()))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", name.lower()).removeprefix("qualcomm")


def _format(asked: str | None, output: str | Path | None) -> Format:
    if asked is None:
        suffix = Path(output).suffix if output is not None else ".dlc"
        if suffix not in _SUFFIXES:
            raise BadInput(
                f"{suffix or 'no suffix'} says no format",
                hint=f"end the name in {', '.join(_SUFFIXES)}, or give the format",
            )
        return _SUFFIXES[suffix]
    if asked not in _FILES:
        raise BadInput(f"there is no format {asked!r}", hint=nearest(asked, _FILES))
    return asked  # type: ignore[return-value]  # it is one of the keys


def _beside(source: Path, wanted: Format) -> Path:
    suffix = next(suffix for suffix, name in _SUFFIXES.items() if name == wanted)
    return Path(source.name.partition(".py:")[0]).with_suffix(suffix)


def _as_npz(feeds: Iterable[Mapping[str, np.ndarray]], folder: Path) -> Path:
    """Write samples where the pipeline's steps can read them."""
    samples = list(feeds)
    if not samples:
        raise BadInput("the calibration data has no samples")
    path = folder / "calibration.npz"
    arrays = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    return path


def _take(folder: Path, wanted: Format, target: Path) -> None:
    """Copy a format's file out of a bundle, with what belongs to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / _FILES[wanted], target)
    if wanted == "context-binary":
        wrapper = target.with_suffix(".onnx")
        shutil.copyfile(folder / f"{NAME}.onnx", wrapper)
        retarget(wrapper, target.name)
    elif wanted == "cpp":
        shutil.copyfile(folder / _WEIGHTS, target.with_name(_WEIGHTS))
    for tail in folder.parent.glob(f"{TAIL}*"):  # what the CPU runs behind it, and its weights
        shutil.copyfile(tail, target.with_name(tail.name))
