"""The ROM of an ESP32-C3 at the end of a pty: esptool's serial protocol, a flash, and a cable that can be pulled."""

from __future__ import annotations

import hashlib
import os
import select
import struct
import threading
import zlib

from pty_pair import PtyPair

SYNC, SECURITY, READ, WRITE, ATTACH, PARAMETERS, MD5 = 0x08, 0x14, 0x0A, 0x09, 0x0D, 0x0B, 0x13
BEGIN, DATA, END, PACKED_BEGIN, PACKED_DATA, PACKED_END, BAUD = 0x02, 0x03, 0x04, 0x10, 0x11, 0x12, 0x0F

SPI_RESULT, FLASH_ID = 0x60002058, 0x164020
"""The register in which a flash chip's answer stands, and the answer of one with 4 MB."""


class Rom(threading.Thread):
    """Answers until it is closed; after `pulled_after` commands or at the command `pulled_at`
    its cable is out, after `silent_after` it hangs."""

    def __init__(
        self, *, chip_id=5, flags=0, pulled_after=None, pulled_at=None, silent_after=None, flash=None, worn=False
    ):
        super().__init__(daemon=True)
        self.chip_id, self.flags, self.pulled_after, self.silent_after = chip_id, flags, pulled_after, silent_after
        self.flash, self.worn = bytearray(b"\xff" * (1 << 16)) if flash is None else flash, worn
        self.pulled_at = pulled_at
        self.commands, self.stop, self.erased = [], False, []
        self.place, self.unpack, self.packed = 0, None, False
        self.pty = PtyPair()
        self.master, self.port = self.pty.master, self.pty.name
        self.start()

    def close(self):
        self.stop = True
        self.join(10)

    def run(self):
        waiting = b""
        try:
            while not self.stop:
                if not select.select([self.master], [], [], 0.05)[0]:
                    continue
                waiting += os.read(self.master, 65536)
                while waiting.count(b"\xc0") >= 2:
                    _, packet, waiting = waiting.split(b"\xc0", 2)
                    if self._serve(packet.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")):
                        return
        except OSError:
            return
        finally:
            self.pty.pull()

    def _serve(self, packet):
        """Answer one request; True when the cable is pulled."""
        if len(packet) < 8:
            return False
        _, command, size, _ = struct.unpack_from("<BBHI", packet)
        data = packet[8 : 8 + size]
        if command != SYNC or not self.commands or self.commands[-1] != SYNC:
            self.commands.append(command)
        if command == self.pulled_at:
            return True
        if self.pulled_after is not None and len(self.commands) > self.pulled_after:
            return True
        if self.silent_after is not None and len(self.commands) > self.silent_after:
            return False
        value, body, status = self._answer(command, data)
        for _ in range(8 if command == SYNC else 1):
            answer = struct.pack("<BBHI", 1, command, len(body) + 4, value) + body + bytes([status, 5 * status, 0, 0])
            os.write(
                self.master, b"\xc0" + answer.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"
            )
        return False

    def _answer(self, command, data):
        """(value, body, status) of one command."""
        if command == SYNC:
            return 0x20120707, b"", 0
        if command == SECURITY:
            return 0, struct.pack("<I8BII", self.flags, 0, *[0] * 7, self.chip_id, 3), 0
        if command == READ:
            return FLASH_ID if struct.unpack_from("<I", data)[0] == SPI_RESULT else 0, b"", 0
        if command in (BEGIN, PACKED_BEGIN):
            size, _, _, place = struct.unpack_from("<4I", data)
            self.place, self.packed, self.unpack = place, command == PACKED_BEGIN, zlib.decompressobj()
            end = min(len(self.flash), (place + size + 4095) // 4096 * 4096)
            self.erased.append((place, end))
            self.flash[place:end] = b"\xff" * (end - place)
        if command in (DATA, PACKED_DATA):
            payload = data[16:]
            plain = self.unpack.decompress(payload) if self.packed else payload
            plain = bytes([plain[0] & 0xFE]) + plain[1:] if self.worn and plain else plain
            self.flash[self.place : self.place + len(plain)] = plain
            self.place += len(plain)
        if command == MD5:
            place, size = struct.unpack_from("<2I", data)
            return 0, hashlib.md5(self.flash[place : place + size]).hexdigest().encode(), 0
        return 0, b"", 0
