"""The options of the SDK's tools that are used, each with the release it begins with and the page
that documents it; and how values become arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from modelc.errors import BadInput, nearest
from modelc.files import is_safe_name
from modelc.targets.snapdragon.sdk.toolsets import CONVERTER, GENERATOR, QUANTIZER, Version, shown

# AIMET's guide is of the first generation of these tools; QEfficient's compiler is of December
# 2024, when 2.29 was current; the pages of docs.qualcomm.com were read for 2.35 (document
# 80-63442-2 rev. BL) and 2.48 (80-63442-10 rev. AL). A row begins with the earliest of them. The
# page of the context binary generator itself could not be read: rows that name it are as Qualcomm's
# public scripts use the tool.
AIMET: Final = (
    "https://quic.github.io/aimet-pages/releases/latest/tutorials/on_target_inference.html"
)
QEFFICIENT: Final = (
    "https://github.com/quic/efficient-transformers/blob/main/QEfficient/compile/qnn_compiler.py"
)
TOOLS: Final = "https://docs.qualcomm.com/doc/80-63442-10/topic/SNPE_general_tools.html"
HTP: Final = "https://docs.qualcomm.com/doc/80-63442-10/topic/htp_backend.html"
QNN_TOOLS: Final = (
    "https://docs.qualcomm.com/bundle/publicresource/topics/80-63442-50/tools.html"
    "#qnn-context-binary-generator"
)

Kind = Literal["path", "paths", "flag", "choice", "names"]


@dataclass(frozen=True)
class InSdk:
    """A path inside the SDK, whose folder differs from machine to machine."""

    path: str


Argument = str | InSdk


@dataclass(frozen=True)
class Option:
    """An option of a tool.

    Attributes:
        field: its name here.
        kind: what follows the flag: a path, several joined by commas, nothing, one of `choices`,
            or any number of names (none means all).
        since, before: the releases that know it, the last exclusive; () is no end.
        documented: URL.
    """

    field: str
    flag: str
    kind: Kind
    since: Version
    documented: str
    choices: tuple[str, ...] = ()
    before: Version = ()

    def known_to(self, version: Version) -> bool:
        return self.since <= version and (not self.before or version < self.before)


OPTIONS: Final[Mapping[str, tuple[Option, ...]]] = {
    CONVERTER: (
        Option("network", "--input_network", "path", (2, 21), AIMET),
        Option("output", "--output_path", "path", (2, 21), AIMET),
        Option("overrides", "--quantization_overrides", "path", (2, 21), AIMET),
        Option("float_bitwidth", "--float_bitwidth", "choice", (2, 29), QEFFICIENT, ("16", "32")),
        Option("float_bias_bitwidth", "--float_bias_bitwidth", "choice", (2, 29), QEFFICIENT,
               ("16", "32")),
        Option("io_config", "--config", "path", (2, 29), QEFFICIENT),
        Option("preserve_io_datatype", "--preserve_io_datatype", "names", (2, 29), QEFFICIENT),
        Option("skip_simplification", "--onnx_skip_simplification", "flag", (2, 29), QEFFICIENT),
        Option("framework_trace", "--enable_framework_trace", "flag", (2, 35), TOOLS),
    ),
    QUANTIZER: (
        Option("model", "--input_dlc", "path", (2, 21), AIMET),
        Option("output", "--output_dlc", "path", (2, 21), AIMET),
        Option("float_fallback", "--float_fallback", "flag", (2, 21), AIMET, before=(2, 35)),
        Option("float_fallback", "--enable_float_fallback", "flag", (2, 35), TOOLS),
        Option("act_bitwidth", "--act_bitwidth", "choice", (2, 21), TOOLS, ("8", "16")),
        Option("weights_bitwidth", "--weights_bitwidth", "choice", (2, 21), TOOLS,
               ("4", "8", "16")),
        Option("bias_bitwidth", "--bias_bitwidth", "choice", (2, 21), TOOLS, ("8", "32")),
        Option("float_bitwidth", "--float_bitwidth", "choice", (2, 35), TOOLS, ("16", "32")),
        Option("per_channel", "--use_per_channel_quantization", "flag", (2, 21), TOOLS),
        Option("per_row", "--use_per_row_quantization", "flag", (2, 21), TOOLS),
        Option("keep_weights_quantized", "--keep_weights_quantized", "flag", (2, 35), TOOLS),
        Option("preserve_io_datatype", "--preserve_io_datatype", "names", (2, 35), TOOLS),
    ),
    GENERATOR: (
        Option("model", "--model", "path", (2, 21), AIMET),
        Option("backend", "--backend", "path", (2, 21), AIMET),
        Option("dlcs", "--dlc_path", "paths", (2, 21), AIMET),
        Option("output_dir", "--output_dir", "path", (2, 21), AIMET),
        Option("binary_file", "--binary_file", "path", (2, 21), AIMET),
        Option("config_file", "--config_file", "path", (2, 21), HTP),
        Option("io_memory", "--input_output_tensor_mem_type", "choice", (2, 21), QNN_TOOLS,
               ("raw", "memhandle")),
        Option("log_level", "--log_level", "choice", (2, 21), QNN_TOOLS,
               ("error", "warn", "info", "verbose", "debug")),
        Option("profiling_level", "--profiling_level", "choice", (2, 21), QNN_TOOLS,
               ("basic", "detailed")),
    ),
}  # fmt: skip
"""By tool, in the order in which arguments are written."""


def arguments(tool: str, values: Mapping[str, object], version: Version) -> tuple[Argument, ...]:
    """Return the arguments for the options that have a value (neither None nor False).

    Raises:
        BadInput: a value that the option doesn't take, or an option that the release doesn't know.
    """
    given = {field: v for field, v in values.items() if v is not None and v is not False}
    rows = {row.field: row for row in OPTIONS[tool] if row.known_to(version)}
    for field in given:
        if field not in rows:
            raise BadInput(
                f"{tool} of QAIRT {shown(version)} has no option for {field}",
                hint=_since(tool, field),
            )
    return tuple(
        argument
        for field, row in rows.items()
        if field in given
        for argument in (row.flag, *_values(tool, row, given[field]))
    )


def _values(tool: str, row: Option, value: object) -> Sequence[Argument]:
    match row.kind, value:
        case "flag", True:
            return ()
        case "choice", str() | int():
            if str(value) in row.choices:
                return (str(value),)
            raise BadInput(f"{tool} {row.flag}: {value!r}", hint=nearest(str(value), row.choices))
        case "path", InSdk():
            return (value,)
        case "path", str():
            return (safe_path(value),)
        case "paths", tuple() if value:
            return (",".join(_without_comma(safe_path(path)) for path in value),)
        case "names", tuple():
            return [_name(row, name) for name in value]
    raise BadInput(f"{tool} {row.flag} takes no {value!r}")


def safe_path(path: str) -> str:
    """Return the path, if it is relative, stays in its folder, and can't be read as an option.

    Raises:
        BadInput: it is not.
    """
    if not is_safe_name(path) or path.startswith("-"):
        raise BadInput(f"{path!r} is no path inside the work folder")
    return path


def _without_comma(path: str) -> str:
    if "," in path:
        raise BadInput(f"{path!r}: the tool splits its list of files at commas", hint="rename it")
    return path


def _name(row: Option, name: str) -> str:
    if not name or name.startswith("-") or "\0" in name:
        raise BadInput(f"{row.flag}: {name!r} is no name of a tensor")
    return name


def _since(tool: str, field: str) -> str:
    known = sorted(shown(row.since) for row in OPTIONS[tool] if row.field == field)
    if known:
        return f"it begins with QAIRT {known[0]}"
    return nearest(field, {row.field for row in OPTIONS[tool]})
