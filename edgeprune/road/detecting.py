"""Which boards are there now, and whether each has what its target needs."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from edgeprune.board import BARE, Board
from edgeprune.deploy.bare_runner import EMULATED
from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.facts import BoardFacts, check_fit, probe
from edgeprune.errors import EdgepruneError
from edgeprune.target import load_target

_MOST_SECONDS = 5.0
_AT_ONCE = 8
_ADB_PORT = 5037


def detect(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """What is known of every board now, in their order; several are asked at once, none for more than seconds.

    `detected`: whether it answers; `detected_target`: the target that it is good for; `problem`: why it is not.
    """
    devices = adb_devices() if any(board.transport == "adb" for board in boards) else []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda board: _detected(board, devices), boards))


def plugged_in(boards: Sequence[Board]) -> tuple[list[dict[str, Any]], list[str]]:
    """Probes, serial ports and drives with the boards they could be; and why some could not be looked for."""
    from edgeprune.flash.detect import detect as look

    seen, problems = look(boards)
    return [one.as_dict() for one in seen], [problem.what for problem in problems]


def adb_devices() -> list[dict[str, str]]:
    """The devices that adb sees, by `serial` and `state`; none where there is no adb."""
    if not _adb_is_there():
        return []
    try:
        from edgeprune.deploy.transport_adb import AdbTransport

        transport = AdbTransport(Board(name="adb", target="", transport="adb", connect_seconds=_MOST_SECONDS))
        return [{"serial": device.serial, "state": device.state} for device in transport.devices()]
    except EdgepruneError:
        return []


def _detected(board: Board, devices: list[dict[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {"detected": False, "detected_target": None, "problem": None}
    if board.transport in EMULATED:
        return {**found, "detected": True, "detected_target": board.target}
    if board.transport in BARE:
        return {**found, "problem": "see what is plugged in"}
    if board.transport == "ssh" and not board.host:
        return {**found, "problem": "it has no address yet"}
    if board.transport == "adb" and not devices:
        return {**found, "problem": "adb sees no device"}
    try:
        if board.transport == "system":
            return {**found, "detected": True, "detected_target": _startable(board)}
        facts = _asked(board)
    except EdgepruneError as error:
        return {**found, "problem": error.what}
    found |= {"detected": True, "machine": facts.as_dict()}
    try:
        target = load_target(board.target)
        check_fit(board, facts, target, where=board.name)
    except EdgepruneError as error:
        return {**found, "problem": error.what}
    return {**found, "detected_target": target.name}


def _startable(board: Board) -> str:
    """The target of a system that could start here: looking around starts none."""
    from edgeprune.deploy.emulated_system import check_ready

    check_ready(board)
    return board.target


def _asked(board: Board) -> BoardFacts:
    seconds = min(_MOST_SECONDS, board.connect_seconds)
    transport = transport_of(msgspec.structs.replace(board, connect_seconds=seconds))
    try:
        transport.connect()
        return probe(transport, board.folder or ".", _MOST_SECONDS)
    finally:
        transport.close()


def _adb_is_there() -> bool:
    """Whether adb's server runs or could be started by the user's own adb: looking around starts none beside it."""
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", "")
    place = os.environ.get("ANDROID_ADB_SERVER_HOST", "127.0.0.1"), int(port) if port.isdecimal() else _ADB_PORT
    try:
        socket.create_connection(place, 0.5).close()
        return True
    except OSError:
        return shutil.which("adb") is not None
