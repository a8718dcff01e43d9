"""An archive of a stranger's runs nothing: each of these is a real one, edited."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.exported_programs import (
    CONSTANTS,
    PROGRAM,
    SAMPLES,
    WEIGHTS,
    Parts,
    change,
    read_parts,
    save_block,
    write_parts,
)

from modelc.errors import BadInput
from modelc.frontends.torch.archive.rewrite import rewrite
from modelc.frontends.torch.archive.summary import summarise
from modelc.frontends.torch.archive.trees import Leaf

torch = pytest.importorskip("torch", reason="needs PyTorch, which writes these archives")

Edit = Callable[[Parts, Path], None]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("real") / "block.pt2"
    save_block(path)
    return path


@pytest.fixture(scope="module")
def parts(real: Path) -> Parts:
    return read_parts(real)


@pytest.fixture(scope="module")
def dims(parts: Parts) -> dict[str, int]:
    """Sizes for its symbols: a batch of 2, a length of 8."""
    return dims_of(json.loads(parts[PROGRAM])["range_constraints"], batch=2, half=4)


def dims_of(ranges: Any, batch: int, half: int) -> dict[str, int]:
    """Tell the two symbols apart by their largest size."""
    sizes = {64: batch, 512: half}
    return {name: sizes[r["max_val"]] for name, r in ranges.items() if r["max_val"] in sizes}


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


def saved(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Payload(marker), buffer)
    return buffer.getvalue()


def graph(document: Any) -> Any:
    return document["graph_module"]["graph"]


def edit_program(edit: Callable[[Any, str], None]) -> Edit:
    """Edit the program; the text makes the file if Python evaluates it."""

    def run(parts: Parts, marker: Path) -> None:
        change(parts, PROGRAM, lambda document: edit(document, f"open({str(marker)!r}, 'w')"))

    return run


def pickled(config: str, folder: str, entry: str) -> Edit:
    def run(parts: Parts, marker: Path) -> None:
        def edit(document: Any) -> None:
            first = next(iter(document["config"].values()))
            first |= {"use_pickle": True, "path_name": entry}

        change(parts, config, edit)
        parts[f"{folder}/{entry}"] = saved(marker)

    return run


def opaque(parts: Parts, marker: Path) -> None:
    pickled(CONSTANTS, "data/constants", "opaque_obj_0")(parts, marker)
    parts["data/constants/opaque_obj_0"] = pickle.dumps(Payload(marker))


def sympy_text(document: Any, code: str) -> None:
    for meta in graph(document)["tensor_values"].values():
        for size in meta["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = code


def named_input(document: Any, code: str) -> None:
    """Add an input whose name gives the argument of a Python function a default."""
    tensor = {"as_tensor": {"name": f"z=[{code}]"}}
    values = graph(document)["tensor_values"]
    values[f"z=[{code}]"] = values["x"]
    graph(document)["inputs"].append(tensor)
    specs = document["graph_module"]["signature"]["input_specs"]
    specs.append({"user_input": {"arg": tensor}})


def guard(document: Any, code: str) -> None:
    document["guards_code"] = [code]


def target(name: str) -> Edit:
    return edit_program(lambda document, _: graph(document)["nodes"][2].update(target=name))


RUNS: dict[str, tuple[Edit, str]] = {
    "weight": (pickled(WEIGHTS, "data/weights", "weight_0"), "stored as a pickled object"),
    "constant": (pickled(CONSTANTS, "data/constants", "tensor_0"), "stored as a pickled object"),
    "opaque": (opaque, "stored as a pickled object"),
    "size": (edit_program(sympy_text), "as an expression of sizes"),
    "name": (edit_program(named_input), "as the name of"),
    "guard": (edit_program(guard), "as an expression of sizes"),
}
"""What makes torch.export.load, or the module that it gives, run code; and how it is refused."""


@pytest.mark.parametrize("name", RUNS)
def test_what_runs_code_in_pytorch_runs_none(
    name: str, parts: Parts, dims: dict[str, int], tmp_path: Path
) -> None:
    edit, message = RUNS[name]
    marker, hostile = tmp_path / "ran", dict(parts)
    edit(hostile, marker)
    path = write_parts(tmp_path / "hostile.pt2", hostile)
    with pytest.raises(BadInput, match=message) as caught:
        rewrite(path, dims, tmp_path / "out.pt2")
    assert caught.value.hint and caught.value.where.path == str(path)
    assert not marker.exists()
    assert pytorch_runs(path, marker), "this edit is harmless, so that it proves nothing"


def pytorch_runs(path: Path, marker: Path) -> bool:
    try:
        module = torch.export.load(path).module()
        module(torch.rand(3, 6, 16), mask=torch.ones(3, 6, 1))
    except Exception:  # whatever it is, the payload has run before
        pass
    return marker.exists()


def test_sample_inputs_are_not_read(
    parts: Parts, real: Path, dims: dict[str, int], tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    path = write_parts(tmp_path / "hostile.pt2", {**parts, SAMPLES: saved(marker)})
    results = rewrite(path, dims, tmp_path / "out.pt2")
    assert results == {"states": Leaf(0), "others": (Leaf(1), Leaf(2))}
    rewrite(real, dims, tmp_path / "clean.pt2")
    assert read_parts(tmp_path / "out.pt2") == read_parts(tmp_path / "clean.pt2")
    assert read_parts(tmp_path / "out.pt2")[SAMPLES] == b""
    assert not marker.exists()
    assert pytorch_runs(path, marker), "this edit is harmless, so that it proves nothing"


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "torch.load", "torch.hub.load", "torch.ops.load_library",
        "torch.ops.aten.from_file.default", "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten._sparse_coo_tensor_unsafe.default", "torch.ops.aten.linear",
        "torch.ops.aten.linear.default.__class__", "torch.ops.aten.__class__.default",
        "torch.ops.mine.op.default", "torch.ops.higher_order.call_torchbind",
        "#extension:op", "_operator.attrgetter", "_operator.call", "math.__loader__", "",
    ],
)  # fmt: skip
def test_other_targets(name: str, parts: Parts, dims: dict[str, int], tmp_path: Path) -> None:
    refuses(target(name), "calls|as what a node calls", parts, dims, tmp_path)


def refuses(
    edit: Edit, message: str, parts: Parts, dims: dict[str, int], tmp_path: Path
) -> BadInput:
    hostile = dict(parts)
    edit(hostile, tmp_path / "ran")
    with pytest.raises(BadInput, match=message) as caught:
        rewrite(write_parts(tmp_path / "hostile.pt2", hostile), dims, tmp_path / "out.pt2")
    assert not (tmp_path / "ran").exists()
    return caught.value


def edit_weight(**changes: Any) -> Edit:
    def edit(document: Any) -> None:
        meta = next(iter(document["config"].values()))["tensor_meta"]
        meta.update(changes)

    return lambda parts, _: change(parts, WEIGHTS, edit)


def sizes(*numbers: int) -> list[dict[str, int]]:
    return [{"as_int": number} for number in numbers]


def edit_node(**changes: Any) -> Edit:
    return edit_program(lambda document, _: graph(document)["nodes"][-1].update(changes))


def string(document: Any, code: str) -> None:
    for node in graph(document)["nodes"]:
        for given in node["inputs"]:
            if "as_string" in given["arg"]:
                given["arg"]["as_string"] = f"'{code}'"


def renamed_weight(parts: Parts, _: Path) -> None:
    def edit(document: Any) -> None:
        document["config"]["__class__"] = document["config"].pop("scale")

    change(parts, WEIGHTS, edit)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_weight(sizes=sizes(1 << 20, 16)), "its entry has"),
        (edit_weight(sizes=sizes(1 << 50, 16)), "as a size"),
        (edit_weight(sizes=sizes(-1, 16)), "as a size"),
        (edit_weight(sizes=sizes(1 << 40, 1 << 40)), "too large"),
        (edit_weight(strides=sizes(0, 0), sizes=sizes(1 << 40, 1)), "its entry has"),
        (edit_weight(storage_offset={"as_int": 8}), "its entry has"),
        (edit_weight(storage_offset={"as_int": -8}), "as a size"),
        (edit_weight(strides=sizes(16)), "other strides than sizes"),
        (edit_weight(dtype=99), "as the type of a tensor"),
        (edit_weight(dtype=True), "as the type of a tensor"),
        (edit_weight(layout=1), "as the layout"),
        (edit_weight(sizes=[{"as_expr": {"expr_str": "open('x', 'w')"}}] * 2), "as an expression"),
        (renamed_weight, "as the name of a weight"),
        (lambda parts, _: parts.pop("data/weights/weight_0"), "no bytes for"),
        (lambda parts, _: parts.update({"data/weights/weight_0": b"123"}), "its entry has 3"),
        (edit_program(string), "as a text"),
        (edit_node(name="x; import os"), "as the name of a node"),
        (edit_node(outputs=[{"as_tensor": {"name": "x"}}]), "as the name of a value"),
        (edit_node(outputs=[{"as_custom_obj": {"name": "x", "class_fqn": "os"}}]), "as a result"),
        (edit_node(inputs=[{"name": "self", "arg": {"as_operator": "os.system"}}]), "as_operator"),
        (edit_node(inputs=[{"name": "", "arg": {"as_tensor": {"name": "later"}}}]), "'later'"),
        (edit_node(surprise=1), "as a member of a node"),
        (edit_node(metadata={"nn_module_stack": "a\nimport os"}), "as a module's path"),
        (edit_program(lambda document, _: document.update(verifiers=["X"])), "as a verifier"),
        (
            edit_program(lambda document, _: document["schema_version"].update(major=9)),
            "of version 9",
        ),
        (
            edit_program(lambda document, _: graph(document)["inputs"].append({"as_tensor": 1})),
            "as an input",
        ),
        (lambda parts, _: parts.update({PROGRAM: b"[" * 100_000}), "not valid JSON"),
        (lambda parts, _: parts.update({PROGRAM: b"[]"}), "not a JSON object"),
        (lambda parts, _: parts.update({"models/b.json": b"{}"}), "2 programs, not one"),
        (lambda parts, _: parts.pop(PROGRAM), "0 programs, not one"),
        (lambda parts, _: parts.update({"data/aotinductor/model/a.so": b""}), "compiled code"),
        (lambda parts, _: parts.update({"data/weights/model.pt": b""}), "an older torch wrote"),
        (lambda parts, _: parts.update({"archive_version": b"1"}), "archive_version is b'1'"),
        (lambda parts, _: parts.update({"byteorder": b"big"}), "byteorder is b'big'"),
        (lambda parts, _: parts.pop("archive_format"), "no archive_format"),
        (lambda parts, _: parts.update({"../../outside": b""}), "has an entry"),
        (lambda parts, _: parts.update({"a\\b": b""}), "has an entry"),
        (lambda parts, _: parts.update({"/absolute": b""}), "has an entry"),
    ],
)
def test_other_edits(
    edit: Edit, message: str, parts: Parts, dims: dict[str, int], tmp_path: Path
) -> None:
    refuses(edit, message, parts, dims, tmp_path)


def test_sizes_against_what_was_exported(parts: Parts, real: Path, tmp_path: Path) -> None:
    ranges = json.loads(parts[PROGRAM])["range_constraints"]
    for batch, half, message in ((65, 4, "out of the range"), (2, 1, "out of the range")):
        with pytest.raises(BadInput, match=message):
            rewrite(real, dims_of(ranges, batch, half), tmp_path / "out.pt2")
    with pytest.raises(BadInput, match=r"sizes are open: .*axis 0 of x, axis 0 of mask"):
        rewrite(real, {}, tmp_path / "out.pt2")
    untrue = edit_program(
        lambda document, _: document.update(guards_code=["L['x'].size()[0] % 2 == 1"])
    )
    refuses(untrue, "takes .* for true", parts, dims_of(ranges, 2, 4), tmp_path)


def test_damaged_zips(real: Path, dims: dict[str, int], parts: Parts, tmp_path: Path) -> None:
    def refused(content: bytes, message: str) -> None:
        path = tmp_path / "damaged.pt2"
        path.write_bytes(content)
        with pytest.raises(BadInput, match=message):
            rewrite(path, dims, tmp_path / "out.pt2")

    whole = real.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        refused(whole[:length], "can't be read")
    refused(whole.replace(parts["data/weights/weight_0"][:64], bytes(64)), "Bad CRC")
    # Its own directory says that an entry is larger than the file.
    (place,) = struct.unpack_from("<I", whole, len(whole) - 6)
    huge = struct.pack("<2I", 1 << 30, 1 << 30)
    refused(whole[: place + 20] + huge + whole[place + 28 :], "does not lie within the file")
    bomb = write_parts(
        tmp_path / "bomb.pt2", {**parts, "extra/zeros": bytes(1 << 22)}, zipfile.ZIP_DEFLATED
    )
    refused(bomb.read_bytes(), "is compressed")


def test_entries_that_share_their_bytes(parts: Parts, dims: dict[str, int], tmp_path: Path) -> None:
    path = write_parts(tmp_path / "shared.pt2", parts)
    with zipfile.ZipFile(path, "a") as file:
        largest = max(file.infolist(), key=lambda info: info.file_size)
        for index in range(9):
            copy = zipfile.ZipInfo(f"shared/extra/{index}")
            for field in ("header_offset", "file_size", "compress_size", "CRC", "flag_bits"):
                setattr(copy, field, getattr(largest, field))
            file.filelist.append(copy)
            file._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="larger than its file"):
        rewrite(path, dims, tmp_path / "out.pt2")


def test_what_it_says_of_itself(real: Path, parts: Parts, dims: dict[str, int]) -> None:
    """Against PyTorch's own reading."""
    program = torch.export.load(real)
    found = summarise(real)
    assert found.torch == torch.__version__
    assert found.open_sizes.keys() == dims.keys()
    (half,) = (name for name, size in dims.items() if size == 4)
    (batch,) = dims.keys() - {half}
    assert found.inputs == {"x": [batch, f"2*{half}", 16], "mask": [batch, f"2*{half}", 1]}
    assert found.open_sizes[half] == f"axis 1 of x is 2*{half}, axis 1 of mask is 2*{half}"
    called = [str(n.target) for n in program.graph.nodes if str(n.target).startswith("aten.")]
    aten = {k: n for k, n in found.operators.items() if k.startswith("torch.ops.aten.")}
    assert aten == {f"torch.ops.{name}": called.count(name) for name in called}
    tensors = [*program.state_dict.values(), *program.constants.values()]
    assert found.weights == len(tensors)
    assert found.weight_bytes == sum(tensor.nbytes for tensor in tensors)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a JSON value: what it lies in, and its key there."""
    keys: Any = {dict: lambda: list(value), list: lambda: range(len(value))}
    for key in keys.get(type(value), tuple)():
        yield value, key
        yield from places(value[key])


ODD: tuple[Any, ...] = (
    None, True, -1, 1 << 70, 1.5, "", "x", "__class__", "Symbol('s0')", [], {}, [[]], [None],
    {"as_int": 1}, {"as_tensor": {"name": "x"}}, {"expr_str": 7}, {"expr_str": "s0"},
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_damage(seed: int, parts: Parts, dims: dict[str, int], tmp_path: Path) -> None:
    """Is an error that says so, or does no harm; never anything else."""
    random = Random(seed)
    path, refusals = tmp_path / "damaged.pt2", 0
    for _ in range(20):
        name = random.choice((PROGRAM, PROGRAM, WEIGHTS, CONSTANTS))
        document = json.loads(parts[name])
        holder, key = random.choice(list(places(document)))
        holder[key] = random.choice(ODD)
        write_parts(path, {**parts, name: json.dumps(document).encode()})
        content = bytearray(path.read_bytes())
        if random.random() < 0.3:
            for _ in range(3):
                content[random.randrange(len(content) - 3000, len(content))] = random.randrange(256)
            path.write_bytes(content)
        for read in (lambda: rewrite(path, dims, tmp_path / "out.pt2"), lambda: summarise(path)):
            try:
                read()
            except BadInput:
                refusals += 1
    assert refusals


def test_the_layout_of_older_torch(tmp_path: Path) -> None:
    path = tmp_path / "old.pt2"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("version", "8.1")
        file.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(BadInput, match="an older torch wrote it") as caught:
        rewrite(path, {}, tmp_path / "out.pt2")
    assert "FILE.py:FUNCTION" in caught.value.hint
