"""Imports point down: each part of modelc may use what lies below it, and nothing beside it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelc

ROOT = Path(modelc.__file__).parent

LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"cli"}),
    frozenset({"api"}),
    frozenset({"pipeline"}),
    frozenset({"frontends", "passes", "quant", "targets", "verify"}),
    frozenset({"decoder", "reference", "bundle"}),
    frozenset({"ir"}),
    frozenset({"hashing", "process", "errors", "files", "data"}),
)
"""From top to bottom, as in ARCHITECTURE.md."""

BETWEEN = frozenset({("process", "errors"), ("files", "errors"), ("files", "hashing")})
"""Within the lowest level, who may use whom."""

HEAVY = frozenset(
    {"torch", "triton", "transformers", "onnxruntime", "onnxruntime_qnn", "onnxruntime_genai"}
)

KERNELS = ROOT / "targets" / "cuda" / "kernels"
"""Functions that Triton wraps when they are defined: only its own processes import them."""

MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part(module: str) -> str:
    """("modelc.passes.base") -> "passes"; the package itself is ""."""
    return module.split(".")[1] if "." in module else ""


def name_of(path: Path) -> str:
    return ".".join(("modelc", *path.relative_to(ROOT).with_suffix("").parts))


def level(name: str) -> int:
    return next(index for index, parts in enumerate(LEVELS) if name in parts)


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of every import anywhere in a module, in functions as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide where they point"
            if node.module == "modelc":
                yield from ((node.lineno, f"modelc.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module or ""


def loaded_at_once(nodes: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported (not those for type checkers)."""
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from loaded_at_once(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from loaded_at_once(handler.body)


def dotted_references(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the modules that a table names as "modelc.part.module:attribute"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            head, colon, _ = node.value.partition(":")
            if colon and head.startswith("modelc.") and head.replace(".", "").isidentifier():
                yield node.lineno, head


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    """Every module, parsed."""
    return {path: ast.parse(path.read_text()) for path in MODULES}


def test_imports_point_down(trees: dict[Path, ast.Module]) -> None:
    wrong = [complaint for path, tree in trees.items() for complaint in upward(path, tree)]
    assert not wrong, "\n".join(wrong)


def upward(path: Path, tree: ast.Module) -> Iterator[str]:
    """Say of every import that does not point down why it must not be."""
    own = part(name_of(path))
    for line, module in (*imports(tree), *dotted_references(tree)):
        other = part(module) if module.split(".")[0] == "modelc" else ""
        if not other or other.startswith("__") or other == own:
            continue
        reason = (
            "parts of one level don't know each other: let pipeline join them, or move what both "
            "need one level down"
            if level(other) == level(own)
            else "imports point down only: move what is needed to the lower part"
        )
        if level(other) <= level(own) and (own, other) not in BETWEEN:
            yield f"{path}:{line}: {own} uses {other}; {reason}"


def test_heavy_packages_are_imported_where_they_are_used(trees: dict[Path, ast.Module]) -> None:
    wrong = [
        f"{path}:{node.lineno}: {module} takes seconds to load, or isn't installed: import it in "
        "the function that needs it"
        for path, tree in trees.items()
        for node in loaded_at_once(tree.body)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for _, module in imports(ast.Module([node], []))
        if module.split(".")[0] in HEAVY - ({"triton"} if path.parent == KERNELS else set())
    ]
    assert not wrong, "\n".join(wrong)


def test_every_part_has_a_level() -> None:
    parts = {part(name_of(path)) for path in MODULES}
    known = frozenset().union(*LEVELS)
    assert parts <= known, f"say in ARCHITECTURE.md and here where {parts - known} belong"


def test_the_architecture_page_says_the_same() -> None:
    page = ROOT.parents[1] / "ARCHITECTURE.md"
    layers = page.read_text().partition("## Layers")[2].partition("\n## ")[0]
    levels = [
        frozenset(item.strip() for item in text.strip(" {}\n").split(","))
        for text in layers.partition("\n\nImports")[0].split("->")
    ]
    assert levels == list(LEVELS)


def test_what_has_no_graph_to_change_starts_without_onnx_ir() -> None:
    """It takes longer to load than all else that they need; a compile starts dozens of workers."""
    workers = [name_of(path) for path in MODULES if path.stem.endswith("worker")]
    assert workers
    code = f"import sys, modelc.api, {', '.join(workers)}; sys.exit('onnx_ir' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_command_line_starts_light() -> None:
    code = "import sys, modelc.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "onnx", "pydantic", "torch"} & set(done.stdout.split())
    assert not heavy, f"{heavy} are loaded before any command needs them: --help gets slow"
