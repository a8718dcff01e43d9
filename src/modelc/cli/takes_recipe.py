"""The options of a recipe, declared once for all commands that take one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from modelc.cli import cuda_options, network_options, options, qaic_options

if TYPE_CHECKING:
    from modelc.pipeline.recipe import Recipe

Command = Callable[..., None]

# Option of the command line -> its type and help. Each is a recipe's option of the same name.
OPTIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "target": options.Target,
        "quant": options.Quant,
        "budget": options.Budget,
        "context_length": options.ContextLength,
        "ar": options.Ar,
        "splits": options.Splits,
        "attention": options.Attention,
        "kv_bits": options.KvBits,
        "algorithms": options.Algorithms,
        "algorithm_option": options.AlgorithmOption,
        "override": options.Override,
        "encodings": options.Encodings,
        "format": options.Format,
        "toolchain": options.Toolchain,
        "memory_limit": options.MemoryLimit,
        "gguf": options.Gguf,
        "calibration_text": options.CalibrationText,
        "calibration_data": options.CalibrationData,
        "calibration_samples": options.CalibrationSamples,
        "calibration_sequence_length": options.CalibrationLength,
        "calibration_observer": options.CalibrationObserver,
        "calibration_percentile": options.CalibrationPercentile,
        "verify_text": options.VerifyText,
        "keep_twins": options.KeepTwins,
        **network_options.OPTIONS,
        **qaic_options.OPTIONS,
        **cuda_options.OPTIONS,
    }
)
CALIBRATION: Final = tuple(name for name in OPTIONS if name.startswith("calibration_"))
NETWORK: Final = tuple(network_options.OPTIONS)
QAIC: Final = tuple(qaic_options.OPTIONS)
CUDA: Final = tuple(cuda_options.OPTIONS)
_FLAGS: Final = ("keep_twins", *network_options.FLAGS, *qaic_options.FLAGS)
# Where a recipe calls it otherwise.
_NAMES: Final = {
    "override": "overrides",
    "algorithm_option": "algorithm_options",
    **network_options.NAMES,
    **qaic_options.NAMES,
    **cuda_options.NAMES,
}


@dataclass(frozen=True)
class RecipeOptions:
    """What was given of a recipe: a file, and options by their names on the command line."""

    file: Path | None
    given: Mapping[str, Any]

    def recipe(self) -> Recipe:
        """Return the recipe that they make.

        Raises:
            BadInput: they make none; says all that is wrong.
        """
        from modelc.pipeline.make_recipe import make_recipe

        # A flag that is not set leaves it to the file.
        unset = (None, False)
        given = {n: value for n, value in self.given.items() if not any(value is u for u in unset)}
        if "override" in given:
            given["override"] = pairs("override", "MODULE=KIND", given["override"])
        if "algorithm_option" in given:
            texts = pairs("algorithm-option", "ALGORITHM.OPTION=VALUE", given["algorithm_option"])
            given["algorithm_option"] = {name: _value(text) for name, text in texts.items()}
        if "dim" in given:
            given["dim"] = pairs("dim", "NAME=SIZE", given["dim"])
        if "compiler_flag" in given:
            texts = pairs("compiler-flag", "NAME=VALUE", given["compiler_flag"])
            given["compiler_flag"] = {name: _value(text) for name, text in texts.items()}
        named = {_NAMES.get(name, name): value for name, value in given.items()}
        return make_recipe(self.file, named)


def takes_recipe(*, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Give a command the options of a recipe, which it gets as its first argument, `RecipeOptions`.

    Typer reads a command's signature: that is the command's own, with the options in place of the
    first argument.

    Args:
        without: options that the command has no use for, or declares itself.
    """
    taken = [name for name in OPTIONS if name not in without]

    def declare(command: Command) -> Command:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        added = [_option(name, OPTIONS[name], name in _FLAGS) for name in taken]
        added.append(_option("recipe", options.RecipeFile))
        parameters = [*added, *(one.replace(kind=one.KEYWORD_ONLY) for one in own)]

        @wraps(command)
        def run(**values: Any) -> None:
            given = {name: values.pop(name) for name in taken}
            command(RecipeOptions(values.pop("recipe"), given), **values)

        # Types: a function has both at run time.
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return declare


def _option(name: str, annotation: Any, flag: bool = False) -> inspect.Parameter:
    default = False if flag else None
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def pairs(option: str, form: str, texts: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE texts of an option.

    Raises:
        BadInput: one has another form.
    """
    from modelc.errors import BadInput

    parts = [text.partition("=") for text in texts]
    if wrong := [name for name, sign, value in parts if not (name and sign and value)]:
        raise BadInput(f"--{option} {wrong[0]} is not {form}", hint=_SUCH_AS[option])
    return {name: value for name, _, value in parts}


_SUCH_AS: Final = {
    "override": "such as lm_head=w4",
    "algorithm-option": "such as gptq.damping=0.1",
    "compiler-flag": "such as mos=2",
    "dim": "such as batch=1",
}


def _value(text: str) -> bool | int | float | str:
    """A number or a truth value as TOML writes it; any other text is itself."""
    import tomllib

    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str) else text
