"""The recipe: everything that a user decides about a compile, validated once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_validator

from modelc.pipeline.recipe_sections import (
    Calibration,
    Count,
    Counts,
    Cuda,
    Network,
    Qaic,
    Section,
    Verify,
    split_commas,
)
from modelc.pipeline.recipe_use import used_by

AUTO: Final = "auto"

Format = Literal["genie", "dlc", "ort", "aimet", "context-binary", "cpp", "model-library"]


def _number_or_word(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _bytes(value: Any) -> Any:
    """Read "8G", "512M" or a plain number of bytes."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([KMGT]?)i?B?", value.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError("a size such as 8G or 512M")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


class Recipe(Section):
    """How a source is compiled.

    Attributes:
        target: "cpu", a chipset, or a card.
        quant: scheme; None for the target's default; "auto" to search for the kind of every
            module's weights, within `budget`.
        budget: what quantising may cost (`quant.budget`), such as "ppl+1%".
        kv_bits: of each number in the KV cache; None for the scheme's own.
        context_length: KV positions, most first: static graphs can be made for several. Empty for
            the model's own, within the target's default.
        ar: new tokens per call of each static graph, most first; 1 must be among them.
        splits: consecutive parts of the decoder; "auto" goes by the memory of device and machine.
        attention: one branch for each query head ("sha"), or the heads of a key head together
            ("grouped").
        encodings: AIMET's encodings: of activations instead of calibrating, and kinds and scales
            of the weights that it tells of, in place of the scheme's.
        format: what a Snapdragon bundle holds: Genie's files, DLCs, ONNX Runtime's models, AIMET's
            encodings of every graph.
        toolchain: Snapdragon: compile with the libraries that pip installs (None), or drive an
            installed QAIRT SDK ("sdk"). Cloud AI 100: the compiler of the Apps SDK (None), or the
            QNN tools ("qnn").
        memory_limit: bytes that compiling may take; None for what the machine has free.
        gguf: GGUF blocks on the CPU stay as they are ("exact"), or some become a format with
            faster kernels ("fast").
        keep_twins: put the simulator's binaries into the bundle as well.
        algorithms: what quantises the weights (`quant.algorithms.table`); none is rounding to
            nearest with scales of least squared error.
        algorithm_options: "gptq.damping" -> value.
        overrides: pattern of module paths -> kind of weights ("w8", "w4_b32", ...), in place of
            the scheme's.
    """

    target: Annotated[str, Field(min_length=1)]
    quant: str | None = None
    budget: str | None = None
    kv_bits: Literal[8, 16] | None = None
    context_length: Counts = ()
    ar: Annotated[tuple[Count, ...], BeforeValidator(split_commas), Field(min_length=1)] = (128, 1)
    splits: Annotated[Literal["auto"] | Count, BeforeValidator(_number_or_word)] = "auto"
    attention: Literal["sha", "grouped"] = "sha"
    encodings: Path | None = None
    format: Annotated[tuple[Format, ...], BeforeValidator(split_commas), Field(min_length=1)] = (
        "genie",
    )
    toolchain: Literal["pip", "sdk", "apps", "qnn"] | None = None
    memory_limit: Annotated[int, BeforeValidator(_bytes), Field(ge=1)] | None = None
    gguf: Literal["exact", "fast"] = "exact"
    keep_twins: bool = False
    calibration: Calibration = Calibration()
    verify: Verify = Verify()
    algorithms: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = ()
    algorithm_options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    overrides: dict[str, str] = Field(default_factory=dict)
    network: Network = Network()
    qaic: Qaic = Qaic()
    cuda: Cuda = Cuda()

    @field_validator("ar", "context_length")
    @classmethod
    def _most_first(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(lengths, reverse=True))

    def to_toml(self, runtime: str | None = None) -> str:
        """Return the TOML that `make_recipe` makes the same recipe of; without options that bundles
        of a runtime have no use for, if one is named."""
        document = self.model_dump(mode="json", exclude_none=True)
        if runtime is not None:
            document = used_by(runtime, document)
        plain = {name: value for name, value in document.items() if not isinstance(value, dict)}
        lines = [*_toml_lines(plain)]
        for name, section in document.items():
            if isinstance(section, dict):
                lines += _toml_section(name, section)
        return "\n".join(lines) + "\n"


def _toml_section(name: str, section: Mapping[str, Any]) -> list[str]:
    plain = {key: value for key, value in section.items() if not isinstance(value, dict)}
    inner = {key: value for key, value in section.items() if isinstance(value, dict)}
    lines = ["", f"[{name}]", *_toml_lines(plain)]
    return lines + [line for key in inner for line in _toml_section(f"{name}.{key}", inner[key])]


def _toml_lines(values: Mapping[str, Any]) -> Iterator[str]:
    # JSON's numbers, booleans, lists and strings are TOML's as well, but for one control code.
    for name, value in values.items():
        key = name if _BARE_KEY.fullmatch(name) else _toml_text(name)
        yield f"{key} = {_toml_text(value)}"


def _toml_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
