"""Facts about a board, read from boards/NAME.toml or from a file of the user's."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgeprune.errors import EdgepruneError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}")
_SERIAL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,126}[A-Za-z0-9])?")
_DEVICE = re.compile(r"/?[A-Za-z0-9._][A-Za-z0-9._:-]*(?:/[A-Za-z0-9._][A-Za-z0-9._:-]*)*")
_FOLDER = re.compile(r"/?[A-Za-z0-9._][A-Za-z0-9._-]*(?:/[A-Za-z0-9._][A-Za-z0-9._-]*)*")
_ADDRESS = re.compile(r"(?:([^@]*)@)?(\[[^@\[\]]+\]|[^:@\[\]]+)(?::([0-9]{1,5}))?")

_CHIP_HINT = "a microcontroller names its chip and is reached by probe, uart, unicorn or qemu; nothing else does"
_ADDRESS_HINT = "an address is HOST, USER@HOST or USER@HOST:PORT; an IPv6 address stands in brackets"


Flasher = Literal["pyocd", "openocd", "esptool", "picotool", "uf2", "dfu-util", "stm32loader"]

BARE = ("unicorn", "qemu", "probe", "uart")
"""Transports to microcontrollers: no operating system answers, a mailbox in memory does."""


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One board: the target it is compiled for and the transport that reaches it ("local": this machine).

    `folder` holds what is put on the board; empty, it is the transport's own choice. `threads` is what is measured
    with where nothing else is asked. `host`, `port`, `user`, `jump` (another host on the way), `identity` (a private
    key file) and `known_hosts` are for ssh, `serial` is for adb. `connect_seconds` is how long an answer may take,
    `command_seconds` one command beside the time it was asked to take, `wait_seconds` how long to wait for others
    who use the board.

    "emulated" is a processor under qemu-user on this machine, "system" a whole machine under qemu-system.

    A microcontroller names its `chip`, what it can be flashed with (`flashers`, the preferred one first) and how many
    bytes at the start of flash are a bootloader's. It is reached by "probe" (a debug probe; `serial` picks one),
    "uart" (`device` is the port, at `baud`), "unicorn" or "qemu" (both emulated here).
    """

    name: str
    target: str
    transport: Literal["local", "ssh", "adb", "emulated", "system", "unicorn", "qemu", "probe", "uart"]
    description: str = ""
    threads: int = 1
    folder: str = ""
    host: str = ""
    port: int = 0
    user: str = ""
    jump: str = ""
    identity: str = ""
    known_hosts: str = ""
    serial: str = ""
    chip: str = ""
    flashers: tuple[Flasher, ...] = ()
    bootloader_bytes: int = 0
    device: str = ""
    baud: int = 115200
    connect_seconds: float = 10.0
    command_seconds: float = 60.0
    wait_seconds: float = 60.0


class Address(msgspec.Struct, frozen=True):
    """Where ssh goes; `port` 0 and an empty `user` leave the choice to the user's ssh configuration."""

    host: str
    port: int = 0
    user: str = ""


def board_names() -> list[str]:
    """The name of every board that has a file: those that come along and the user's own."""
    return sorted({*_built_in(), *_own()})


def board_folder() -> Path:
    """Where the user's own boards are: edgeprune/boards under $XDG_CONFIG_HOME or ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(base) if base and Path(base).is_absolute() else Path("~/.config").expanduser()
    return home / "edgeprune" / "boards"


def load_board(text: str) -> Board:
    """The board that `--board` names: NAME, NAME@ADDRESS, or the path of a .toml file.

    Raises EdgepruneError (usage): board-unknown with the nearest names; board-invalid where a name, an address or a
    file is not what it should be; board-file-missing.
    """
    name, at, address = text.partition("@")
    if text.endswith(".toml"):
        return _from_file(Path(text))
    if not _NAME.fullmatch(name):
        hint = "a board is called by small letters, digits, '-', '_' and '.'; a file's name ends in .toml"
        raise _invalid(f"{name!a} is no name for a board", hint=hint)
    if name not in board_names():
        what = f"there is no board '{name}'"
        raise EdgepruneError("board-unknown", what, where="--board", hint=nearest(name, board_names()), exit_code=2)
    board = _from_file(_own()[name]) if name in _own() else _convert(_facts_of(name), "--board")
    return at_address(board, address) if at else board


def at_address(board: Board, address: str) -> Board:
    """`board` reached at `address`: a host for ssh, a serial number for adb and probes, a port for uart.

    Raises EdgepruneError (board-invalid).
    """
    if board.transport == "ssh":
        where = parse_address(address)
        return msgspec.structs.replace(
            board, host=where.host, port=where.port or board.port, user=where.user or board.user
        )
    if board.transport == "adb":
        if not _SERIAL.fullmatch(address):
            raise _invalid(f"{address!a} is no serial number of adb", hint="`adb devices` lists them")
        return msgspec.structs.replace(board, serial=address)
    if board.transport == "probe":
        if not _SERIAL.fullmatch(address):
            raise _invalid(f"{address!a} is no serial number of a probe", hint="`edgeprune boards --detect` lists them")
        return msgspec.structs.replace(board, serial=address)
    if board.transport == "uart":
        if not _DEVICE.fullmatch(address):
            raise _invalid(f"{address!a} is no port", hint="a port is a path such as /dev/ttyACM0")
        return msgspec.structs.replace(board, device=address)
    raise _invalid(f"board {board.name} has no address", hint=f"write --board {board.name}")


def parse_address(text: str, where: str = "--board") -> Address:
    """The parts of [USER@]HOST[:PORT]. Raises EdgepruneError (board-invalid)."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise _invalid(f"{text!a} is no address", where=where, hint=_ADDRESS_HINT)
    user, host, port = match.group(1), match.group(2).strip("[]"), match.group(3)
    if not _is_host(host):
        raise _invalid(f"{host!a} is no host name", where=where, hint=_ADDRESS_HINT)
    if user is not None and not _USER.fullmatch(user):
        raise _invalid(f"{user!a} is no user name", where=where, hint=_ADDRESS_HINT)
    if port is not None and not 0 < int(port) < 65536:
        raise _invalid(f"{port} is no port", where=where, hint="ports go from 1 to 65535")
    return Address(host, int(port or 0), user or "")


def _is_host(text: str) -> bool:
    address, percent, zone = text.partition("%")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.removesuffix(".").split("."))
    return not percent or _LABEL.fullmatch(zone) is not None


def _built_in() -> list[str]:
    entries = resources.files("edgeprune.boards").iterdir()
    return [Path(entry.name).stem for entry in entries if entry.name.endswith(".toml")]


def _own() -> dict[str, Path]:
    try:
        return {path.stem: path for path in board_folder().glob("*.toml") if _NAME.fullmatch(path.stem)}
    except OSError:
        return {}


def _facts_of(name: str) -> dict[str, Any]:
    text = (resources.files("edgeprune.boards") / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _from_file(path: Path) -> Board:
    """A board of the user's; it is called as its file."""
    facts = _read(path)
    if not _NAME.fullmatch(path.stem):
        hint = "a board is called by small letters, digits, '-', '_' and '.'"
        raise _invalid(f"{path.stem!a} is no name for a board", where=str(path), hint=hint)
    return _convert({**_with_like(facts, path, ()), "name": facts.get("name", path.stem)}, str(path))


def _with_like(facts: dict[str, Any], path: Path, above: tuple[str, ...]) -> dict[str, Any]:
    """`facts` of the file `path` over those of the board that they are `like`, which may be one of the user's too.

    `above` are the boards that are like this one. A file that bears the name of the board that it is like means the
    one that comes along.
    """
    like = facts.pop("like", None)
    if like is None:
        return facts
    own = _own()
    if like in own and like != path.stem:
        chain = (*above, path.stem)
        if like in chain:
            what = f"boards are `like` each other in a circle: {' -> '.join((*chain, like))}"
            hint = "say in one of them, in place of `like`, which target and transport it has"
            raise _invalid(what, where=f"{path}: like", hint=hint)
        return {**_with_like(_read(own[like]), own[like], chain), **facts}
    if like not in _built_in():
        hint = nearest(str(like), {*_built_in(), *own} - {path.stem})
        raise _invalid(f"there is no board {like!a}", where=f"{path}: like", hint=hint)
    return {**_facts_of(like), **facts}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = f"`edgeprune boards` lists those in {board_folder()}"
        what = f"the board's file cannot be read: {error.strerror or error}"
        raise EdgepruneError("board-file-missing", what, where=str(path), hint=hint, exit_code=2) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        hint = "one fact a line: name = value"
        raise _invalid(f"the file is no TOML: {error}", where=str(path), hint=hint) from error


def _convert(facts: dict[str, Any], where: str) -> Board:
    try:
        board = msgspec.convert(facts, Board)
    except msgspec.ValidationError as error:
        hint = "facts of a board: " + ", ".join(("like", *Board.__struct_fields__))
        raise _invalid(str(error), where=where, hint=hint) from error
    _check(board, where)
    return board


def _check(board: Board, where: str) -> None:
    """Refuse whatever could mean something else to a shell, to ssh or to a path."""
    patterns = {"name": _NAME, "target": _NAME, "user": _USER, "serial": _SERIAL, "folder": _FOLDER}
    patterns |= {"chip": _NAME, "device": _DEVICE}
    for field, pattern in patterns.items():
        value = getattr(board, field)
        if value and (not pattern.fullmatch(value) or ".." in value.split("/")):
            raise _invalid(f"{value!a} is no {field}", where=where, hint=f"correct the fact '{field}'")
    if board.host and not _is_host(board.host):
        raise _invalid(f"{board.host!a} is no host name", where=where, hint=_ADDRESS_HINT)
    if board.jump:
        parse_address(board.jump, f"{where}: jump")
    if not 0 <= board.port < 65536:
        raise _invalid(f"{board.port} is no port", where=where, hint="ports go from 1 to 65535")
    if board.threads < 1:
        raise _invalid(f"{board.threads} threads", where=where, hint="give a number of threads of at least 1")
    if (board.transport in BARE) != bool(board.chip):
        raise _invalid(f"transport {board.transport} with chip {board.chip!a}", where=where, hint=_CHIP_HINT)
    if board.bootloader_bytes < 0 or board.baud < 1:
        what = f"bootloader_bytes {board.bootloader_bytes}, baud {board.baud}"
        raise _invalid(what, where=where, hint="bytes from 0 up, baud from 1 up")
    for field in ("connect_seconds", "command_seconds", "wait_seconds"):
        if not 0 <= getattr(board, field) <= 86400:
            raise _invalid(f"{getattr(board, field)} is no {field}", where=where, hint="seconds, at most a day")


def _invalid(what: str, *, where: str = "--board", hint: str) -> EdgepruneError:
    return EdgepruneError("board-invalid", what, where=where, hint=hint, exit_code=2)
