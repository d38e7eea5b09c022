"""The mailbox: words in a microcontroller's memory by which a model is run there, whatever reaches that memory.

Words are little-endian uint32. The host writes inputs into the arena, then argument, command and, last, sequence;
the device copies sequence to done_sequence when it is done.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from edgeprune.errors import EdgepruneError

MAGIC = 0x4D474445
VERSION = 1
RUN, BENCH, RESET = 1, 2, 3
BOOTING, READY, BUSY, DONE, FAILED = range(5)


_FAILURES = {2: "the firmware ran into a fault, such as memory that is not there, and stopped"}


class Memory(Protocol):
    """The memory of a running device, over a probe, a line or an emulator. All raise EdgepruneError."""

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address` on."""

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at `address`: whole words where address and size are multiples of 4, each in one access."""

    def wait(self, seconds: float) -> None:
        """Let the device go on for up to `seconds`; return earlier where it may have changed its mailbox."""


class Mailbox(NamedTuple):
    """The words of the mailbox, in order."""

    magic: int
    version: int
    command: int
    status: int
    sequence: int
    done_sequence: int
    argument: int
    error: int
    cycles_low: int
    cycles_high: int
    arena_address: int
    arena_bytes: int
    step_count: int
    step_cycles_address: int
    clock_hz: int
    library_first: int
    library_second: int

    @property
    def cycles(self) -> int:
        """Cycles of the runs together that were last asked for."""
        return self.cycles_high << 32 | self.cycles_low

    @property
    def library(self) -> bytes:
        """The first 8 bytes of the SHA-256 of the library that the firmware holds."""
        return struct.pack("<2I", self.library_first, self.library_second)


_WORDS = len(Mailbox._fields)
BYTES = 4 * _WORDS


def parse_mailbox(content: bytes) -> Mailbox:
    """The mailbox that `content` begins with. Raises EdgepruneError (mailbox-missing)."""
    mailbox = Mailbox(*struct.unpack_from(f"<{_WORDS}I", content)) if len(content) >= BYTES else None
    if mailbox is None or mailbox.magic != MAGIC or mailbox.version != VERSION:
        what = "no firmware of edgeprune answers there"
        if mailbox is not None and mailbox.magic == MAGIC:
            what = f"its firmware speaks version {mailbox.version} of the mailbox, and this is {VERSION}"
        raise EdgepruneError("mailbox-missing", what, where="mailbox", hint="flash the package again, then retry")
    return mailbox


def find_mailbox(memory: Memory, start: int, size: int, step: int = 1024) -> int:
    """The address of the mailbox's magic in `size` bytes from `start` on. Raises EdgepruneError (mailbox-missing)."""
    wanted = struct.pack("<2I", MAGIC, VERSION)
    for first in range(start, start + size, step):
        content = memory.read(first, min(step + 8, start + size - first))
        place = content.find(wanted)
        while place >= 0 and (first + place) % 4:
            place = content.find(wanted, place + 1)
        if place >= 0:
            return first + place
    what = f"no firmware of edgeprune answers: no mailbox from {start:#x} to {start + size:#x}"
    raise EdgepruneError("mailbox-missing", what, where="mailbox", hint="flash the package again, then retry")


class MailboxClient:
    """The host's side of one mailbox at `address` of `memory`."""

    def __init__(self, memory: Memory, address: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.memory = memory
        self.address = address
        self._clock = clock

    def state(self) -> Mailbox:
        """The mailbox as it is now. Raises EdgepruneError (mailbox-missing)."""
        return parse_mailbox(self.memory.read(self.address, BYTES))

    def wait_ready(self, seconds: float) -> Mailbox:
        """The mailbox once the device has started. Raises EdgepruneError: mailbox-timeout, mailbox-missing."""
        deadline = self._clock() + seconds
        while True:
            content = self.memory.read(self.address, BYTES)
            words = struct.unpack(f"<{_WORDS}I", content)
            if words[0] == MAGIC and words[Mailbox._fields.index("status")] != BOOTING:
                return parse_mailbox(content)
            self._pause(deadline, seconds, "start")

    def call(self, command: int, argument: int = 0, seconds: float = 10.0) -> Mailbox:
        """Have `command` done, within `seconds`, and return the mailbox afterwards.

        Raises EdgepruneError: mailbox-timeout; mailbox-failed where the device refuses; mailbox-missing.
        """
        before = self.state()
        sequence = (before.sequence + 1) & 0xFFFFFFFF
        self._put("argument", argument)
        self._put("command", command)
        self._put("sequence", sequence)
        deadline = self._clock() + seconds
        while (now := self.state()).done_sequence != sequence:
            self._pause(deadline, seconds, "finish")
        if now.status == FAILED:
            what = _FAILURES.get(now.error, f"the firmware refused what it was asked (error {now.error})")
            raise EdgepruneError("mailbox-failed", what, where="mailbox", hint="flash the package again, then retry")
        return now

    def _put(self, field: str, value: int) -> None:
        self.memory.write(self.address + 4 * Mailbox._fields.index(field), struct.pack("<I", value))

    def _pause(self, deadline: float, seconds: float, what: str) -> None:
        left = deadline - self._clock()
        if left <= 0:
            message = f"the board did not {what} within {seconds:g} seconds"
            hint = "reset it and retry; command_seconds in the board's file allows more"
            raise EdgepruneError("mailbox-timeout", message, where="mailbox", hint=hint)
        self.memory.wait(left)
