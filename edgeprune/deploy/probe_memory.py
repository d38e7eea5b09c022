"""The memory of a running chip, read and written by a debug probe: no line and no code on the chip is needed."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from edgeprune.device.failures import chip_mismatch
from edgeprune.device.probe import Probe, open_probe, translated

if TYPE_CHECKING:
    from edgeprune.chip import Chip

_CHUNK = 4096
_POLL_SECONDS = 0.002


class ProbeMemory:
    """A mailbox's Memory over a probe, reached at its first use; the core goes on running meanwhile."""

    def __init__(self, chip: Chip, serial: str = "") -> None:
        self._chip, self._serial = chip, serial
        self._probe: Probe | None = None

    def connect(self) -> None:
        """Reach the chip; once more after the connection was lost.

        Raises EdgepruneError: flasher-missing, probe-missing, board-ambiguous, chip-mismatch, chip-locked.
        """
        self.close()
        self._probe = open_probe(self._chip, self._serial, "attach", writes_flash=False)
        identity = self._chip.identity
        if identity is None:
            return
        (word,) = struct.unpack("<I", self.read(identity.address, 4))
        if not identity.matches(word):
            where = self._probe.where
            self.close()
            expected = f"{self._chip.name} ({identity.register} 0x{identity.value:x})"
            raise chip_mismatch(expected, f"one with {identity.register} 0x{word & identity.mask:x}", where)

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address` on, in whole words where it begins on one. Errors: probe-lost, memory-fault."""
        probe, parts = self._open(), []
        with translated(self._chip.name, probe.where, unlocked=True):
            for start in range(address, address + size, _CHUNK):
                length = min(_CHUNK, address + size - start)
                if start % 4 == 0 and length % 4 == 0:
                    words = probe.target.read_memory_block32(start, length // 4)
                    parts.append(struct.pack(f"<{length // 4}I", *words))
                else:
                    parts.append(bytes(probe.target.read_memory_block8(start, length)))
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at `address`, in whole words where it begins and ends on one. Errors: probe-lost, memory-fault."""
        probe = self._open()
        with translated(self._chip.name, probe.where, unlocked=True):
            for start in range(0, len(data), _CHUNK):
                part = data[start : start + _CHUNK]
                if (address + start) % 4 == 0 and len(part) % 4 == 0:
                    words = struct.unpack(f"<{len(part) // 4}I", part)
                    probe.target.write_memory_block32(address + start, words)
                else:
                    probe.target.write_memory_block8(address + start, part)
            probe.target.flush()

    def wait(self, seconds: float) -> None:
        """Leave the chip alone for a moment."""
        time.sleep(max(0.0, min(seconds, _POLL_SECONDS)))

    def reset(self) -> None:
        """Start the firmware anew. Raises EdgepruneError (probe-lost)."""
        probe = self._open()
        with translated(self._chip.name, probe.where, unlocked=True):
            probe.target.reset()

    def close(self) -> None:
        """End the connection; nothing is raised."""
        if self._probe is not None:
            self._probe.close()
        self._probe = None

    def _open(self) -> Probe:
        if self._probe is None:
            self.connect()
        assert self._probe is not None
        return self._probe
