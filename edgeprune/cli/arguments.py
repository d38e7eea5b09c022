"""Arguments and options that several verbs share, their completion, and the checks that need no model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.board import Board, board_names, load_board
from edgeprune.chip import checked_board, chip_names, load_chip
from edgeprune.errors import EdgepruneError, nearest
from edgeprune.model_file import ModelFile, callable_parts
from edgeprune.target import Target, load_target, target_names


def complete_target(incomplete: str) -> list[str]:
    """The targets that the shell offers."""
    return [name for name in target_names() if name.startswith(incomplete)]


def complete_board(incomplete: str) -> list[str]:
    """The boards that the shell offers."""
    return [name for name in board_names() if name.startswith(incomplete)]


_MODEL_SUFFIXES = (".onnx", ".pt2", ".pt", ".pth", ".th", ".tflite")
_MODEL_HELP = "A model (.onnx, .tflite, .pt2, module.py:callable)"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on standard error.")]
ModelSource = Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL_HELP + ".", show_default=False)]
ModelOrPackage = Annotated[
    str, typer.Argument(metavar="MODEL_OR_PACKAGE", help=_MODEL_HELP + " or a package (.edge).", show_default=False)
]
PackagePath = Annotated[
    Path, typer.Argument(metavar="PACKAGE", help="A package that `edgeprune compile` wrote.", show_default=False)
]
TargetName = Annotated[
    str,
    typer.Option(
        "--target", "-t", help="What to compile for; `edgeprune targets` lists.", autocompletion=complete_target
    ),
]
TargetArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Show this one.", autocompletion=complete_target)
]
BoardName = Annotated[
    str,
    typer.Option(
        "--board",
        "-b",
        metavar="BOARD",
        help="Where to run: NAME, NAME@ADDRESS or a .toml file; `edgeprune boards` lists.",
        autocompletion=complete_board,
    ),
]
BoardArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Show this one.", autocompletion=complete_board)
]
DataCard = Annotated[
    Path | None,
    typer.Option("--data", "-d", metavar="CARD.toml", help="Data card: what data there is and how it is fed."),
]
RandomCalibration = Annotated[
    bool, typer.Option("--random-calibration", help="Without a card: use random inputs. No accuracy is checked.")
]
Architecture = Annotated[
    str | None,
    typer.Option("--arch", metavar="FILE.py:CALLABLE", help="For a .pt/.pth checkpoint: what builds the module."),
]
Dimensions = Annotated[
    list[str] | None,
    typer.Option("--dimension", metavar="NAME=SIZE", help="Size of a dimension the model leaves open; repeatable."),
]
BoardThreads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads of the compiled model; else what the board's file says (1)."),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of the compiled model and of the peers.")]


def usage_error(code: str, what: str, where: str = "", hint: str = "") -> EdgepruneError:
    """An error of the caller: exit code 2."""
    return EdgepruneError(code, what, where=where, hint=hint, exit_code=2)


def check_output(path: Path, *, where: str = "--output") -> None:
    """Refuse, before any work, a path that cannot become a file.

    Raises EdgepruneError (output-unwritable, usage).
    """
    if path.is_dir():
        raise usage_error("output-unwritable", f"{path} is a folder", where, "name the file to write")
    folder = path.parent
    if not folder.is_dir():
        raise usage_error("output-unwritable", f"there is no folder {folder}", where, "create it, or name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise usage_error("output-unwritable", f"nothing can be written to {folder}", where, "choose another folder")


def check_file(path: str | Path, *, where: str, code: str = "file-missing") -> None:
    """Refuse a path that is no file: EdgepruneError (`code`) with the nearest names of its folder."""
    file = Path(path)
    if file.is_file():
        return
    if file.is_dir():
        raise EdgepruneError(code, f"{path} is a folder", where=where, hint="name a file in it")
    siblings = [entry for entry in file.parent.glob("*") if entry.is_file()]
    alike = [entry for entry in siblings if entry.suffix == file.suffix] or siblings
    hint = nearest(file.name, (entry.name for entry in alike))
    hint = hint if hint.startswith("did you mean") else "check the path"
    raise EdgepruneError(code, f"there is no file {path}", where=where, hint=hint)


def check_data(data: Path | None, random_calibration: bool) -> None:
    """Refuse a data card whose file is not there, and random inputs beside one.

    Raises EdgepruneError (card-missing; option-conflict, usage).
    """
    if data is None:
        return
    check_file(data, where="--data", code="card-missing")
    if random_calibration:
        what = "--data and --random-calibration exclude each other"
        raise usage_error("option-conflict", what, "--data", "drop one of them")


def model_file(source: str, arch: str | None = None, dimensions: list[str] | None = None) -> ModelFile:
    """The model that `source`, `--arch` and every `--dimension` name, checked as far as it can be unread.

    Raises EdgepruneError (file-missing; option-conflict, option-range, arch-invalid, usage).
    """
    check_model(source)
    if arch is not None:
        check_architecture(arch, source)
    if dimensions and source.endswith(".edge"):
        what = f"the shapes of a package are fixed, and {source} is one"
        raise usage_error("option-conflict", what, "--dimension", "leave --dimension out")
    return ModelFile(source, arch, parse_dimensions(dimensions or []))


def parse_dimensions(texts: list[str]) -> dict[str, int]:
    """Sizes by name from texts like `sequence=512`. Raises EdgepruneError (option-range, option-conflict, usage)."""
    sizes: dict[str, int] = {}
    for text in texts:
        name, _, size = (part.strip() for part in text.rpartition("="))
        if not name or not size.isdecimal() or int(size) < 1:
            hint = "write NAME=SIZE, such as sequence=512, once for every name"
            raise usage_error("option-range", f"'{text}' gives no dimension a size", "--dimension", hint)
        if sizes.setdefault(name, int(size)) != int(size):
            what = f"dimension '{name}' is given two sizes, {sizes[name]} and {size}"
            raise usage_error("option-conflict", what, "--dimension", "keep one of them")
    return sizes


def check_model(source: str) -> None:
    """Refuse a model whose file is not there; `module.py:callable` names a file before its last colon."""
    parts = callable_parts(source)
    file, colon, name = source.rpartition(":")
    if parts is None and colon and not Path(source).exists() and Path(f"{file}.py").is_file():
        hint = f"write the file with its suffix: {file}.py:{name}"
        raise EdgepruneError("file-missing", f"there is no file {source}", where="MODEL", hint=hint)
    check_file(parts[0] if parts else source, where="MODEL")


def brings_network(source: str) -> bool:
    """Whether a model needs no `--arch`: all do but the checkpoints of PyTorch."""
    return callable_parts(source) is not None or Path(source).suffix.lower() in (".onnx", ".pt2", ".tflite", ".edge")


def check_architecture(arch: str, model: str) -> None:
    """Refuse an `--arch` that is not `file.py:callable`, or stands beside a model that brings its own network.

    Raises EdgepruneError (option-conflict, arch-invalid, usage; file-missing).
    """
    if brings_network(model):
        what = f"--arch builds the network of a checkpoint, and {model} brings its own"
        raise usage_error("option-conflict", what, "--arch", "leave --arch out")
    parts = callable_parts(arch)
    if parts is None or not parts[1].isidentifier():
        hint = "write FILE.py:CALLABLE; it returns (module, (example,))"
        raise usage_error("arch-invalid", f"'{arch}' does not name a function in a Python file", "--arch", hint)
    check_file(parts[0], where="--arch")


def check_package(path: Path) -> None:
    """Refuse a package whose file is not there, and a model in its place.

    Raises EdgepruneError (file-missing; package-wanted, usage).
    """
    name = str(path)
    if callable_parts(name) or path.suffix.lower() in _MODEL_SUFFIXES:
        check_model(name)
        hint = f"compile it first: edgeprune compile {name} -o {path.stem.partition('.py:')[0]}.edge"
        raise usage_error(
            "package-wanted", f"{name} is a model, and this verb takes a package (.edge)", "PACKAGE", hint
        )
    check_file(path, where="PACKAGE")


def check_board(name: str) -> Board:
    """The board that `--board` names, whose chip and target agree.

    Raises EdgepruneError (usage): board-unknown, board-invalid, board-file-missing, chip-unknown, chip-invalid.
    """
    try:
        return checked_board(name)[0]
    except EdgepruneError as error:
        plain = name.partition("@")[0]
        kind = "target" if plain in target_names() else "chip" if plain in chip_names() else ""
        fitting = _boards_with(kind, plain) if error.code == "board-unknown" and kind else []
        if not fitting:
            raise
        hint = f"'{plain}' is a {kind}; boards with it: {', '.join(fitting)}"
        raise usage_error(error.code, error.what, error.where, hint) from None


def check_target(name: str) -> Target:
    """The target that `--target` names. Raises EdgepruneError (target-unknown, usage; host-unsupported)."""
    try:
        return load_target(name)
    except EdgepruneError as error:
        if error.code != "target-unknown":
            raise
        hint = error.hint
        if name in board_names():
            hint = f"'{name}' is a board: write --target {load_board(name).target}"
        elif name in chip_names():
            hint = f"'{name}' is a chip: write --target {load_chip(name).target}"
        raise usage_error(error.code, error.what, error.where, hint) from None


def _boards_with(kind: str, name: str) -> list[str]:
    """Boards that name this chip or target, broken files left out."""
    found = []
    for known in board_names():
        try:
            board = load_board(known)
        except EdgepruneError:
            continue
        if name == (board.chip if kind == "chip" else board.target):
            found.append(known)
    return found
