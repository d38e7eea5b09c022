"""What is plugged in: debug probes, serial ports and drives, each with the boards that it could be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from edgeprune.board import Board
from edgeprune.chip import Chip, load_chip
from edgeprune.device.port import PortFacts, list_ports, usb_ids
from edgeprune.device.probe import ProbeFacts, list_probes
from edgeprune.errors import EdgepruneError
from edgeprune.flash.drive import Drive, find_drives

_PROBE_MAKERS = (("st-link", "stm32"), ("stlink", "stm32"), ("stm", "stm32"), ("j-link", "nrf"), ("segger", "nrf"))
"""Words in what probes call themselves, and how the chips on their makers' boards are called."""

_BY_PROBE, _BY_PORT = ("pyocd", "openocd"), ("esptool", "stm32loader")


@dataclass(frozen=True)
class Seen:
    """Something that is plugged in; `address` is what follows the @ in --board, empty for drives.

    `boards` are those that it could be, `certain` where it says which chip it has.
    """

    kind: Literal["probe", "port", "drive"]
    address: str
    description: str
    boards: tuple[str, ...]
    certain: bool = False

    def as_dict(self) -> dict[str, object]:
        """The fields as JSON has them."""
        return asdict(self) | {"boards": list(self.boards)}


def detect(boards: Iterable[Board], folders: Sequence[Path] | None = None) -> tuple[list[Seen], list[EdgepruneError]]:
    """What is plugged in, matched with the microcontrollers among `boards`; nothing is opened or written.

    The second list says what could not be looked at, such as pyOCD that is not installed.
    """
    known = [(board, load_chip(board.chip)) for board in boards if board.chip and board.flashers]
    seen: list[Seen] = []
    problems: list[EdgepruneError] = []
    looks: tuple[Callable[[], list[Seen]], ...] = (
        lambda: [_probe(facts, known) for facts in list_probes()],
        lambda: [_port(facts, known) for facts in list_ports() if facts.vendor],
        lambda: [_drive(drive, known) for drive in find_drives(folders)],
    )
    for look in looks:
        try:
            seen += look()
        except EdgepruneError as error:
            problems.append(error)
    return seen, problems


def _probe(facts: ProbeFacts, known: Sequence[tuple[Board, Chip]]) -> Seen:
    """By the chip that the probe names, else by its maker; a probe of neither kind could sit on any board."""
    by_probe = [(board, chip) for board, chip in known if set(board.flashers) & set(_BY_PROBE)]
    exact = [board.name for board, chip in by_probe if facts.chip and chip.pyocd.lower() == facts.chip.lower()]
    if exact:
        return Seen("probe", facts.serial, facts.description, tuple(exact), certain=True)
    start = next((start for word, start in _PROBE_MAKERS if word in facts.description.lower()), "")
    could = tuple(board.name for board, chip in by_probe if chip.name.startswith(start))
    return Seen("probe", facts.serial, facts.description, could)


def _port(facts: PortFacts, known: Sequence[tuple[Board, Chip]]) -> Seen:
    could = tuple(
        board.name
        for board, chip in known
        if (board.transport == "uart" or set(board.flashers) & set(_BY_PORT)) and facts.is_one_of(usb_ids(chip.name))
    )
    return Seen("port", facts.device, facts.description, could)


def _drive(drive: Drive, known: Sequence[tuple[Board, Chip]]) -> Seen:
    fitting = tuple(
        board.name
        for board, chip in known
        if "uf2" in board.flashers and drive.family and chip.uf2_family == drive.family
    )
    return Seen("drive", "", f"{drive.model} ({drive.board_id}) at {drive.path}", fitting, certain=bool(fitting))
