"""A wheel and an editable install hold the same things: code, kernels, runtime C files, targets and boards."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest

from edgeprune.board import board_names, load_board
from edgeprune.target import load_target, target_names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
HOMES = {
    "edgeprune": "edgeprune",
    "kernels": "edgeprune/kernels",
    "targets": "edgeprune/targets",
    "boards": "edgeprune/boards",
}


def installed_names() -> set[str]:
    """Where every code and data file of the source tree lies in an installation."""
    names = set()
    for top, home in HOMES.items():
        for path in (ROOT / top).rglob("*"):
            if path.suffix in (".py", ".c", ".h", ".sh", ".toml"):
                names.add(f"{home}/{path.relative_to(ROOT / top).as_posix()}")
    return names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tree, without the network."""
    copy = tmp_path_factory.mktemp("source")
    for top in HOMES:
        shutil.copytree(ROOT / top, copy / top, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(copy),
    ]
    subprocess.run(command, check=True, timeout=300)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    held = {name for name in names if name.startswith("edgeprune/")}
    assert held == installed_names()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_works_from_its_own_files(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import edgeprune, edgeprune.kernels, edgeprune.targets, edgeprune.boards\n"
        "for module in (edgeprune, edgeprune.kernels, edgeprune.targets, edgeprune.boards):\n"
        "    assert module.__file__.startswith(sys.argv[1]), module.__file__\n"
        "from edgeprune.target import load_target, target_names\n"
        "from edgeprune.board import load_board, board_names\n"
        "assert [load_target(name) for name in target_names() if name != 'host']\n"
        "assert [load_board(name) for name in board_names()]\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=tmp_path, timeout=60)


def test_the_running_installation_finds_its_data():
    assert (resources.files("edgeprune.kernels.runtime") / "edge.h").is_file()
    assert {load_target(name).name for name in target_names() if name != "host"} == {*target_names()} - {"host"}
    assert [load_board(name).name for name in board_names()] == board_names()


def test_every_package_is_listed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    held = {
        name.removesuffix("/__init__.py").replace("/", ".")
        for name in installed_names()
        if name.endswith("/__init__.py")
    }
    assert listed == held


def test_no_file_needs_a_newer_python_than_is_promised():
    for top in HOMES:
        for path in (ROOT / top).rglob("*.py"):
            ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 10))


def test_the_readme_holds_the_two_commands_of_the_ci():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [readme.count(f"<!-- ci: {name} -->") for name in ("demo", "tests")] == [1, 1]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "readme_command demo" in script and "readme_command tests" in script


def test_the_c_interface_in_the_readme_is_that_of_the_header():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    header = (ROOT / "kernels" / "runtime" / "edge.h").read_text(encoding="utf-8")
    code = readme.partition("```c\n")[2].partition("```")[0]
    used = {word for word in code.replace("(", " ").replace("*", " ").split() if word.startswith("edge_")}
    assert used and all(name in header for name in used)
