"""Doubles of the SDK's tools that make model libraries: they take the documented options, write
down how they were called, and compute nothing."""

# From the pages of "Tools" in QAIRT's documentation, as far as modelc uses them.
DOUBLE = """\
#!{python}
import argparse, hashlib, json, os, sys
from pathlib import Path

digest = None
parser = argparse.ArgumentParser(allow_abbrev=False)
if {tool!r} == "qnn-onnx-converter":
    parser.add_argument("-i", "--input_network", required=True)
    parser.add_argument("-o", "--output_path")
    parser.add_argument("--quantization_overrides")
    parser.add_argument("--preserve_io", nargs="*")
    read = parser.parse_args()
    digest = hashlib.sha256(Path(read.input_network).read_bytes()).hexdigest()
    Path(read.output_path).write_text("QnnModel_composeGraphs")
    Path(read.output_path).with_suffix(".bin").write_bytes(b"weights")
else:
    parser.add_argument("-c", required=True)
    parser.add_argument("-b")
    parser.add_argument("-t", nargs="+")
    parser.add_argument("-l")
    parser.add_argument("-o")
    read = parser.parse_args()
    folder = Path(read.o, read.t[0])
    folder.mkdir(parents=True, exist_ok=True)
    if read.t[0] != "aarch64-oe-linux-gcc9.3":  # as if there were no compiler for it
        text = Path(read.c).read_text() + Path(read.b).read_text()
        (folder / f"lib{{read.l}}.so").write_text(text)
with open({record!r}, "a") as record:
    print(json.dumps({{"tool": {tool!r}, "argv": sys.argv[1:], "read": digest}}), file=record)
"""
