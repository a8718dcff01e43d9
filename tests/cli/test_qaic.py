"""`modelc qaic mlperf`: the commands that it prints."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from modelc.cli.qaic import app
from modelc.errors import BadInput


def test_command() -> None:
    done = CliRunner().invoke(
        app, ["mlperf", "--tags", "bert-99.9,server,nsp.14", "m.onnx", "--json"]
    )
    told = json.loads(done.stdout)
    assert told["command"].startswith("/opt/qti-aic/exec/qaic-exec -model=m.onnx -aic-binary-dir=")
    assert told["command"].endswith("  -aic-num-cores=2")
    binary = told["environment"]["CM_QAIC_MODEL_COMPILED_BINARY_WITH_PATH"]
    assert binary.endswith("/elfs/programqpc.bin")


def test_list() -> None:
    done = CliRunner().invoke(app, ["mlperf", "--list", "--json"])
    assert "resnet50,server,nsp.16" in json.loads(done.stdout)
    assert "retinanet,multistream" in CliRunner().invoke(app, ["mlperf", "--list"]).stdout


def test_without_a_model() -> None:
    assert isinstance(CliRunner().invoke(app, ["mlperf"]).exception, BadInput)
