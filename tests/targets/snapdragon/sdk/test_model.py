"""The whole list of commands of a model, its configuration files, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.golden import check_golden
from support.sdk_doubles import model_parts

from modelc.errors import BadInput
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.genie_config import extension_config
from modelc.targets.snapdragon.sdk.convert import ConverterOptions
from modelc.targets.snapdragon.sdk.find import Sdk
from modelc.targets.snapdragon.sdk.generate import GeneratorOptions
from modelc.targets.snapdragon.sdk.model import SdkCommands, SdkOptions, sdk_commands
from modelc.targets.snapdragon.sdk.script import commands_sh
from modelc.targets.snapdragon.sdk.toolsets import TOOLSETS

ELITE = find_chipset("snapdragon-8-elite")
GOLDEN = Path(__file__).parent / "golden"
SDK = Sdk(Path("/sdk"), (2, 39, 0))


def written(made: SdkCommands) -> str:
    """The script and the configuration files, as one text."""
    files = [f"==> {name} <==\n{text}" for name, text in made.configs.items()]
    return "\n".join([commands_sh(made.commands), *files])


@pytest.mark.parametrize(
    ("name", "encodings"),
    [("quantised", True), ("fp16", False)],
)
def test_three_parts_two_lengths(name: str, encodings: bool) -> None:
    made = sdk_commands(model_parts(encodings), ELITE, SDK)
    check_golden(GOLDEN / f"{name}.txt", written(made))


def test_steps_and_counts_as_in_the_plan() -> None:
    made = sdk_commands(model_parts(), ELITE, SDK)
    steps = [command.step for command in made.commands]
    assert steps == ["convert"] * 6 + ["quantize"] * 6 + ["generate_context_binary"] * 3
    assert made.binaries == tuple(f"serialized_binaries/decoder_{i}_of_3.bin" for i in (1, 2, 3))
    outputs = {name for command in made.commands for name in command.outputs}
    inputs = {name for command in made.commands for name in command.inputs}
    sources = {name for p in model_parts() for g in p.graphs for name in (g.network, g.overrides)}
    assert inputs - outputs == sources | set(made.configs), "nothing else is read from outside"


def config(made: SdkCommands, part: int = 2) -> dict[str, Any]:
    """The HTP options that the generator's own file points to."""
    pointer = json.loads(made.configs[f"configs/decoder_{part}_of_3.json"])["backend_extensions"]
    assert pointer["shared_library_path"] == "libQnnHtpNetRunExtensions.so"
    return dict(json.loads(made.configs[pointer["config_file_path"]]))


def test_each_part_names_its_own_graphs_and_the_chipset() -> None:
    found = config(sdk_commands(model_parts(), ELITE, SDK))
    graphs = ["prompt_ar128_cl4096_2_of_3", "token_ar1_cl4096_2_of_3"]
    assert found["graphs"] == [{"graph_names": graphs, "vtcm_mb": 8, "O": 3}]
    assert found["context"] == {"weight_sharing_enabled": True}
    runtime = extension_config(ELITE)
    assert found["devices"] == runtime["devices"] and found["devices"][0]["soc_model"] == 69
    assert found["memory"] == runtime["memory"] == {"mem_type": "shared_buffer"}


def test_raw_memory_shares_no_buffers() -> None:
    raw = SdkOptions(generator=GeneratorOptions(io_memory="raw", optimization=2))
    made = sdk_commands(model_parts(), ELITE, SDK, raw)
    assert "memory" not in config(made) and config(made)["graphs"][0]["O"] == 2
    assert made.commands[-1].arguments[-2:] == ("--input_output_tensor_mem_type", "raw")


def test_one_graph_shares_nothing() -> None:
    parts = [replace(part, graphs=part.graphs[:1]) for part in model_parts()]
    assert config(sdk_commands(parts, ELITE, SDK))["context"] == {"weight_sharing_enabled": False}


@pytest.mark.parametrize(("release", "flag"), [((2, 34, 0), 1), ((2, 35, 0), None)])
def test_half_precision_is_asked_for_where_it_is_not_chosen(
    release: tuple[int, ...], flag: int | None
) -> None:
    made = sdk_commands(model_parts(encodings=False), ELITE, replace(SDK, version=release))
    assert config(made)["graphs"][0].get("fp16_relaxed_precision") == flag
    assert {command.step for command in made.commands} == {"convert", "generate_context_binary"}


def test_commands_name_no_machine(tmp_path: Path) -> None:
    here, there = (sdk_commands(model_parts(), ELITE, Sdk(tmp_path / n, (2, 39))) for n in "ab")
    assert here == there and str(tmp_path) not in written(here)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([model_parts()[0]] * 2, "prompt_ar128_cl4096_1_of_3 is there twice; .* binary decoder_1"),
        ([replace(model_parts()[0], graphs=())], "decoder_1_of_3 has no graphs"),
        ([replace(model_parts()[0], binary="a/b")], "a/b is no name of a file"),
        ([replace(model_parts()[0], binary="..")], "inside the work folder"),
        (
            [replace(model_parts()[0], graphs=model_parts()[0].graphs + model_parts()[1].graphs)],
            "graphs of different parts",
        ),
        (
            [
                replace(
                    model_parts()[0],
                    graphs=(model_parts()[0].graphs[0], model_parts(False)[0].graphs[1]),
                )
            ],
            "with and without encodings",
        ),
    ],
)
def test_parts_that_do_not_fit_together(parts: list[Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        sdk_commands(parts, ELITE, SDK)


def test_what_a_chipset_cannot_do() -> None:
    with pytest.raises(BadInput, match="can't share weights"):
        sdk_commands(model_parts(), replace(ELITE, weight_sharing=False), SDK)
    with pytest.raises(BadInput, match="has no fp16"):
        sdk_commands(model_parts(encodings=False), replace(ELITE, fp16=False), SDK)
    unknown = SdkOptions(generator=GeneratorOptions(optimization=1))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="2 or 3"):
        sdk_commands(model_parts(), ELITE, SDK, unknown)


@pytest.mark.parametrize("encodings", [True, False])
def test_every_release_that_is_found_can_do_what_is_asked(encodings: bool) -> None:
    """So that nothing is refused when the graphs are made already."""
    for toolset in TOOLSETS:
        if not toolset.lacks:
            sdk = replace(SDK, version=toolset.since)
            assert sdk_commands(model_parts(encodings), ELITE, sdk).commands


def test_what_a_release_cannot_do() -> None:
    traced = SdkOptions(converter=ConverterOptions(framework_trace=True))
    with pytest.raises(BadInput, match=r"QAIRT 2\.29 has no option for framework_trace") as error:
        sdk_commands(model_parts(), ELITE, replace(SDK, version=(2, 29)), traced)
    assert "2.35" in error.value.hint
