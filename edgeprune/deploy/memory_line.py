"""A serial line in a microcontroller's memory, where an emulator or a probe reaches that; uart_memory.c is its end.

Two rings of bytes. The host writes `arrived`, `taken` and the ring `in`; the board writes `read`, `sent` and `out`.
"""

from __future__ import annotations

import struct
import time

from edgeprune.deploy.mailbox import Memory
from edgeprune.errors import EdgepruneError

RING = 1024
_ARRIVED, _TAKEN, _IN, _READ, _SENT, _OUT = 0, 4, 32, 32 + RING, 36 + RING, 64 + RING
_ROOM_SECONDS = 10.0
_COUNTS = 1 << 32


class MemoryLine:
    """The line at `address` of `memory`, once the firmware there has started."""

    def __init__(self, memory: Memory, address: int, device: str) -> None:
        self._memory, self._address, self.device = memory, address, device

    def write(self, data: bytes) -> None:
        """Send `data`, in parts where there is no room. Raises EdgepruneError: line-stuck, and the memory's own."""
        end = time.monotonic() + _ROOM_SECONDS
        while data:
            arrived, read = self._count(_ARRIVED), self._count(_READ)
            room = RING - (arrived - read) % _COUNTS
            if not 0 <= room <= RING or (room == 0 and time.monotonic() >= end):
                hint = "reset the board and retry; flash the package again if that does not help"
                what = f"the board takes no bytes: {len(data)} are left to send"
                raise EdgepruneError("line-stuck", what, where=self.device, hint=hint)
            part, data = data[:room], data[room:]
            self._put_ring(arrived, part)
            self._put_count(_ARRIVED, arrived + len(part))
            if data:
                self._memory.wait(_ROOM_SECONDS)

    def read(self, seconds: float) -> bytes:
        """What is there, or arrives within `seconds`; empty where nothing does. Errors: those of the memory."""
        end = time.monotonic() + seconds
        while not (arrived := self._taken()) and (left := end - time.monotonic()) > 0:
            self._memory.wait(left)
        return arrived

    def _taken(self) -> bytes:
        taken, sent = self._count(_TAKEN), self._count(_SENT)
        size = min((sent - taken) % _COUNTS, RING)
        if not size:
            return b""
        start = taken % RING
        first = min(size, RING - start)
        content = self._memory.read(self._address + _OUT + start, first)
        if first < size:
            content += self._memory.read(self._address + _OUT, size - first)
        self._put_count(_TAKEN, taken + size)
        return content

    def _put_ring(self, count: int, data: bytes) -> None:
        start = count % RING
        first = data[: RING - start]
        if first:
            self._memory.write(self._address + _IN + start, first)
        if data[len(first) :]:
            self._memory.write(self._address + _IN, data[len(first) :])

    def _count(self, offset: int) -> int:
        return int(struct.unpack("<I", self._memory.read(self._address + offset, 4))[0])

    def _put_count(self, offset: int, value: int) -> None:
        self._memory.write(self._address + offset, struct.pack("<I", value % _COUNTS))
