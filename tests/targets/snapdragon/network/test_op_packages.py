"""What is said of op packages is checked before any tool sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import helper

from modelc.errors import BadInput, Where
from modelc.targets.snapdragon.network.op_packages import (
    CUSTOM_DOMAINS,
    OpPackage,
    check_packages,
    custom_domains,
    package_options,
    parse_op_package,
)

HALVE = OpPackage("Halve", Path("/lib.so"), "HalveInterfaceProvider")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "libHalve.so"
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(("target", "read"), [("", "CPU"), (":CPU", "CPU"), (":HTP", "HTP")])
def test_parsed(target: str, read: str, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(library.parent)
    package = parse_op_package(f"Halve:libHalve.so:HalveInterfaceProvider{target}")
    assert package == OpPackage("Halve", library, "HalveInterfaceProvider", read)
    assert package.option() == f"Halve:{library}:HalveInterfaceProvider:{read}"


@pytest.mark.parametrize(
    "text",
    ["", "Halve", "Halve:LIB", "Halve:LIB:", ":LIB:I", "Halve::I", "H:LIB:I:CPU:x", "H:LIB:I:"],
)
def test_another_form(text: str, library: Path) -> None:
    with pytest.raises(BadInput, match="no op package"):
        parse_op_package(text.replace("LIB", str(library)))


@pytest.mark.parametrize("text", ["1H:LIB:I", "H,x:LIB:I", "H:LIB:I;J", "H:LIB:a b"])
def test_names_that_would_reach_other_options(text: str, library: Path) -> None:
    with pytest.raises(BadInput, match="no name of C"):
        parse_op_package(text.replace("LIB", str(library)))


def test_another_target(library: Path) -> None:
    with pytest.raises(BadInput, match="'DSP' is no target"):
        parse_op_package(f"Halve:{library}:I:DSP")


def test_a_path_that_the_provider_would_cut(tmp_path: Path) -> None:
    (tmp_path / "a,b.so").write_bytes(b"")
    with pytest.raises(BadInput, match="comma, colon or semicolon"):
        parse_op_package(f"Halve:{tmp_path}/a,b.so:I")


def test_options() -> None:
    assert package_options(()) == {}
    other = OpPackage("Twice", Path("/t.so"), "T", "HTP")
    assert package_options((HALVE, other)) == {
        "op_packages": "Halve:/lib.so:HalveInterfaceProvider:CPU,Twice:/t.so:T:HTP"
    }


def node(op: str, domain: str = "") -> object:
    return helper.make_node(op, ["x"], ["y"], op.lower(), domain=domain)


def test_domains_are_declared() -> None:
    packages = [HALVE, OpPackage("Twice", Path("/t.so"), "T"), OpPackage("Third", Path("/t"), "T")]
    nodes = [node("Relu"), node("Twice", "b.ops"), node("Halve", "a.ops"), node("Third", "b.ops")]
    assert custom_domains(nodes, packages) == {CUSTOM_DOMAINS: "a.ops:Halve;b.ops:Third,Twice"}
    assert custom_domains([node("Relu"), node("Gelu", "com.microsoft")], []) == {}


@pytest.mark.parametrize("domain", ["a;b", "a:b", "a,b", "a b"])
def test_domains_that_can_not_be_declared(domain: str) -> None:
    with pytest.raises(BadInput, match="can't be told of the domain"):
        custom_domains([node("Halve", domain)], [HALVE])


def test_a_package_for_nothing() -> None:
    with pytest.raises(BadInput, match="the model has no Halve"):
        check_packages([node("Relu")], [HALVE], Where())


def test_two_packages_for_one_operator() -> None:
    device = OpPackage("Halve", Path("/device.so"), "I", "HTP")
    check_packages([node("Halve", "a")], [HALVE, device], Where())
    with pytest.raises(BadInput, match="two op packages are for Halve on CPU"):
        check_packages([node("Halve", "a")], [HALVE, HALVE], Where())
