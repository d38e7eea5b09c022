"""The import rules of the house, and what `import edgeprune` costs."""

from __future__ import annotations

import ast
import fnmatch
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "tvm", "tvm_ffi", "onnxruntime", "onnx", "onnx_ir", "scipy")
STAGES = ("frontend", "passes", "search", "lowering", "package", "deploy", "bench", "report", "firmware", "flash")
MAY_IMPORT_TVM = ("edgeprune/lowering/*", "kernels/*")
MAY_IMPORT_TORCH = (
    "edgeprune/ir/trainable*",
    "edgeprune/frontend/torch*",
    "edgeprune/passes/recover*",
    "edgeprune/passes/gradients.py",
    "edgeprune/torch/*",
    "edgeprune/demo.py",
)

EXITS = ("SystemExit", "sys.exit", "os._exit", "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__")


def sources() -> list[str]:
    found = [path for top in ("edgeprune", "kernels", "targets", "boards") for path in (ROOT / top).rglob("*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def tree(source: str) -> ast.Module:
    return ast.parse((ROOT / source).read_text(encoding="utf-8"), source)


def imported(source: str) -> Iterator[str]:
    """Full names of what a file imports, at the top and inside functions."""
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{source}: relative imports are not used here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(*names: str) -> set[str]:
    prefixes = tuple(f"{name}." for name in names)
    return {source for source in sources() if any(f"{name}.".startswith(prefixes) for name in imported(source))}


def allowed(found: set[str], patterns: tuple[str, ...]) -> set[str]:
    """What of `found` no pattern allows."""
    return {source for source in found if not any(fnmatch.fnmatch(source, pattern) for pattern in patterns)}


def test_only_lowering_and_kernels_import_tvm():
    assert allowed(importers("tvm", "tvm_ffi"), MAY_IMPORT_TVM) == set()


def test_only_what_trains_imports_torch():
    assert allowed(importers("torch"), MAY_IMPORT_TORCH) == set()


@pytest.mark.parametrize("stage", STAGES)
def test_stages_do_not_import_each_other(stage):
    others = tuple(f"edgeprune.{other}" for other in STAGES if other != stage)
    assert {source for source in importers(*others) if source.startswith(f"edgeprune/{stage}/")} == set()


def test_nobody_imports_the_command_line():
    assert allowed(importers("edgeprune.cli"), ("edgeprune/cli/*", "edgeprune/__main__.py")) == set()


def test_only_the_command_line_prints_or_exits():
    guilty = []
    for source in allowed(set(sources()), ("edgeprune/cli/*",)):
        for node in ast.walk(tree(source)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            reached = ast.unparse(node) if isinstance(node, (ast.Attribute, ast.Name)) else ""
            if called in ("print", "exit", "quit", "input") or reached in EXITS:
                guilty.append(f"{source}: {called or reached}")
    assert guilty == []


def modules_after(code: str, tmp_path: Path) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    report = tmp_path / "modules.json"
    ask = f"import json, sys\nnames = sorted(sys.modules)\nopen({str(report)!r}, 'w').write(json.dumps(names))"
    subprocess.run([sys.executable, "-c", f"{code}\n{ask}"], capture_output=True, timeout=120, check=True)
    return {name.partition(".")[0] for name in json.loads(report.read_text())}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["compile", "--help"], 0),
        (["targets", "x86-64-v3"], 0),
        (["boards", "--json"], 0),
        (["compile", "model.onnx", "-o", "model.edge", "--size", "0"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_light_commands_load_nothing_heavy(tmp_path, arguments, code):
    run = f"from edgeprune.cli.main import run_command\nassert run_command({arguments!r}) == {code}"
    assert modules_after(run, tmp_path).isdisjoint(HEAVY)


def test_importing_edgeprune_is_lighter_still(tmp_path):
    loaded = modules_after("import edgeprune\ndir(edgeprune)", tmp_path)
    assert loaded.isdisjoint({*HEAVY, "numpy", "typer", "rich", "msgspec"})
