"""The example of a custom operator: its network, its package's description and its page agree."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import onnx
import pytest
from support.qnn_networks import CHIPSET, FLOAT

from modelc.errors import BadInput, Where
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.network.op_packages import CUSTOM_DOMAINS, OpPackage
from modelc.targets.snapdragon.network.options import NetworkOptions, prepare

EXAMPLE = Path(__file__).parents[4] / "examples/udo"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "scaled_tanh.onnx"
    script = (sys.executable, str(EXAMPLE / "make_model.py"), str(path))
    subprocess.run(script, check=True, stdout=subprocess.DEVNULL)
    return path


def test_the_package_reaches_the_provider_with_its_domain(model: Path) -> None:
    package = OpPackage("ScaledTanh", Path("/lib.so"), "ScaledTanhOpPackageInterfaceProvider")
    options = NetworkOptions(FLOAT.compile, op_packages=(package,))
    prepared = prepare(model, "net", find_chipset(CHIPSET), options, Where())
    assert prepared.environment == {CUSTOM_DOMAINS: "example.ops:ScaledTanh"}
    assert prepared.settings["op_packages"] == package.option()
    with pytest.raises(BadInput, match=r"no op package is for example\.ops:ScaledTanh"):
        prepare(model, "net", find_chipset(CHIPSET), FLOAT, Where())


def test_the_description_has_the_nodes_names(model: Path) -> None:
    collection = ElementTree.parse(EXAMPLE / "ScaledTanhOpPackage.xml").getroot()
    [operator] = collection.iter("OpDef")
    [node] = [node for node in onnx.load(str(model)).graph.node if node.domain]
    assert (operator.findtext("Name"), collection.get("Domain")) == (node.op_type, node.domain)
    parameters = [row.findtext("Name") for row in operator.iter("Parameter")]
    assert parameters == [attribute.name for attribute in node.attribute]
    assert (len(node.input), len(node.output)) == (
        len(list(operator.iter("Input"))),
        len(list(operator.iter("Output"))),
    )
    page = (EXAMPLE / "README.md").read_text()
    assert f"{collection.get('PackageName')}InterfaceProvider" in page
