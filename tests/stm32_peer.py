"""The bootloader of an STM32 at the end of a pty, as AN3155 describes it; its cable can be pulled."""

from __future__ import annotations

import os
import select
import threading
from functools import reduce
from operator import xor

from pty_pair import PtyPair

ACK, NACK = b"\x79", b"\x1f"
START = 0x08000000


class PulledError(Exception):
    """The cable is out."""


class Bootloader(threading.Thread):
    """Answers until it is closed; after `pulled_after` bytes that reached it, its cable is out."""

    def __init__(self, *, product=0x421, protected=False, pulled_after=None, silent=False, stuck=None, flash=None):
        super().__init__(daemon=True)
        self.product, self.protected, self.pulled_after = product, protected, pulled_after
        self.silent, self.stuck = silent, stuck or {}
        self.flash = bytearray(b"\0" * 0x4000) if flash is None else flash
        self.synchronized, self.erased, self.started, self.taken, self.stop = False, False, None, 0, False
        self.refused = set()
        self.pty = PtyPair()
        self.master, self.port = self.pty.master, self.pty.name
        self.start()

    def close(self):
        self.stop = True
        self.join(10)

    def run(self):
        try:
            while True:
                self._serve()
        except (OSError, PulledError):
            return
        finally:
            self.pty.pull()

    def _serve(self):
        first = self._take(1)[0]
        if not self.synchronized:
            self.synchronized = first == 0x7F
            return self._say(ACK if self.synchronized else b"")
        second = self._take(1)[0]
        if first ^ second != 0xFF or first in self.refused:
            return self._say(NACK)
        handlers = {0x00: self._get, 0x02: self._get_id, 0x11: self._read, 0x21: self._go, 0x31: self._write}
        handler = {**handlers, 0x44: self._erase}.get(first)
        if handler is None or (self.protected and first not in (0x00, 0x02)):
            return self._say(NACK)
        self._say(ACK)
        return handler()

    def _get(self):
        self._say(bytes([7, 0x31, 0x00, 0x02, 0x11, 0x21, 0x31, 0x44, 0x92]) + ACK)

    def _get_id(self):
        self._say(b"\x01" + self.product.to_bytes(2, "big") + ACK)

    def _read(self):
        place = self._address()
        if place is None:
            return
        size, check = self._take(2)
        if size ^ check != 0xFF:
            return self._say(NACK)
        self._say(ACK + bytes(self.flash[place : place + size + 1]))

    def _write(self):
        place = self._address()
        if place is None:
            return
        size = self._take(1)[0]
        data, check = self._take(size + 1), self._take(1)[0]
        if reduce(xor, data, size) != check or (size + 1) % 4 or place % 4:
            return self._say(NACK)
        for offset, byte in enumerate(data):
            self.flash[place + offset] &= byte & ~self.stuck.get(place + offset, 0)
        self._say(ACK)

    def _erase(self):
        if self._take(3) != b"\xff\xff\x00":
            return self._say(NACK)
        self.flash[:] = b"\xff" * len(self.flash)
        self.erased = True
        self._say(ACK)

    def _go(self):
        self.started = self._place()
        self._say(NACK if self.started is None else ACK)

    def _address(self):
        place = self._place()
        self._say(NACK if place is None else ACK)
        return place

    def _place(self):
        """Where in the flash, None where it is outside or did not arrive whole; not answered yet."""
        *address, check = self._take(5)
        place = int.from_bytes(bytes(address), "big") - START
        return place if reduce(xor, address) == check and 0 <= place < len(self.flash) else None

    def _take(self, size):
        data = b""
        while len(data) < size:
            if self.stop:
                raise PulledError
            if not select.select([self.master], [], [], 0.05)[0]:
                continue
            part = os.read(self.master, size - len(data))
            self.taken += len(part)
            if self.pulled_after is not None and self.taken > self.pulled_after:
                raise PulledError
            data += part
        return data

    def _say(self, data):
        if not self.silent:
            os.write(self.master, data)
