"""An SDK whose tools are doubles: they take the documented options of their release, write down how
they were called, and pass on the name of the graph as the real ones do. They compute nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from modelc.targets.snapdragon.graph_names import GraphKey
from modelc.targets.snapdragon.sdk.parts import GraphFiles, SplitFiles

HOST = "x86_64-linux-clang"
TOOLS = ("qairt-converter", "qairt-quantizer", "qnn-context-binary-generator")
LIBRARIES = ("libQnnHtp.so", "libQnnModelDlc.so", "libQnnHtpNetRunExtensions.so")
VARIABLES = ("QAIRT_SDK_ROOT", "QNN_SDK_ROOT", "PYTHONPATH", "PATH", "LD_LIBRARY_PATH")
DOCUMENTED = json.loads(
    (Path(__file__).parents[1] / "targets/snapdragon/sdk/documented.json").read_text()
)

DOUBLE = """\
#!{python}
import argparse, json, os, sys
from pathlib import Path

tool, options = {tool!r}, {options!r}
parser = argparse.ArgumentParser(tool, allow_abbrev=False)
for flag, arity in options.items():
    kind = {{"action": "store_true"}} if arity == "0" else {{"nargs": arity}}
    if arity.isdigit() and arity != "0":
        kind = {{"nargs": int(arity)}}
    parser.add_argument(flag, dest=flag.lstrip("-"), **kind)
read = vars(parser.parse_args())
value = lambda name: read[name][0]
called = {{"tool": tool, "argv": sys.argv[1:], "cwd": os.getcwd(),
          "python": sys.executable,
          "environment": {{name: os.environ.get(name) for name in {variables!r}}}}}
with open({record!r}, "a") as record:
    print(json.dumps(called), file=record)
print(tool, "was here")
if tool == "qairt-converter":
    Path(value("input_network")).read_bytes()
    Path(value("output_path")).write_text(Path(value("output_path")).stem)
elif tool == "qairt-quantizer":
    fallback = read.get("float_fallback") or read.get("enable_float_fallback")
    assert bool(read["input_list"]) != fallback, "one of the two, and one only"
    Path(value("output_dlc")).write_text(Path(value("input_dlc")).read_text())
else:
    extensions = json.loads(Path(value("config_file")).read_text())["backend_extensions"]
    config = json.loads(Path(extensions["config_file_path"]).read_text())
    graphs = [Path(dlc).read_text() for dlc in value("dlc_path").split(",")]
    assert [name for row in config["graphs"] for name in row["graph_names"]] == graphs
    for library in (value("model"), value("backend")):
        Path(library).read_bytes()
    binary = Path(value("output_dir"), value("binary_file") + ".bin")
    ready = Path({binaries!r}, binary.name)
    binary.write_bytes(ready.read_bytes() if ready.is_file() else " ".join(graphs).encode())
"""


def documented(tool: str, release: str) -> dict[str, str]:
    """The options (and how many values each takes) in the newest page that is not newer than a
    release."""
    pages = {_numbers(since): page["options"] for since, page in DOCUMENTED[tool].items()}
    return dict(pages[max(since for since in pages if since <= _numbers(release))])


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def make_sdk(
    root: Path,
    release: str = "2.39.0",
    record: Path | None = None,
    binaries: Path = Path("none"),
) -> Path:
    """Write an SDK of doubles; what they are called with goes to `record`.

    The generator gives out the file in `binaries` that is called as its own would be, if there is
    one: a context binary of the same graphs, which no double could make.
    """
    for folder in (f"bin/{HOST}", f"lib/{HOST}", "lib/python"):
        (root / folder).mkdir(parents=True)
    for name in LIBRARIES:
        (root / "lib" / HOST / name).write_bytes(b"")
    for tool in TOOLS:
        program = root / "bin" / HOST / tool
        program.write_text(
            DOUBLE.format(
                python=sys.executable,
                tool=tool,
                options=documented(tool, release),
                variables=VARIABLES,
                record=str(record or root / "record.jsonl"),
                binaries=str(binaries),
            )
        )
        program.chmod(0o755)
    (root / "sdk.yaml").write_text(f"product: qairt\nversion: {release}\nbuild_id: '250926'\n")
    return root


def calls(record: Path) -> list[dict[str, Any]]:
    """What the doubles wrote down."""
    return [json.loads(line) for line in record.read_text().splitlines()]


def model_parts(encodings: bool = True) -> list[SplitFiles]:
    """A model of three parts for AR-128 and AR-1."""
    return [
        SplitFiles(
            f"decoder_{part}_of_3",
            tuple(
                GraphFiles(
                    key := GraphKey(ar, 4096, part, 3),
                    f"onnx/{key.name}.onnx",
                    f"onnx/{key.name}.encodings" if encodings else None,
                )
                for ar in (128, 1)
            ),
        )
        for part in (1, 2, 3)
    ]


def write_inputs(folder: Path, parts: list[SplitFiles], configs: dict[str, str]) -> None:
    """Write what the commands read."""
    files = {name: "" for part in parts for g in part.graphs for name in (g.network, g.overrides)}
    for name, text in {**files, **configs}.items():
        if name is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
