from __future__ import annotations

import socket
import threading
import time

import pytest

from edgeprune.deploy import gdb_stub
from edgeprune.deploy.gdb_stub import GdbStub
from edgeprune.errors import EdgepruneError

MEMORY = bytes(range(256)) * 16


def framed(content: bytes) -> bytes:
    return b"$%s#%02x" % (content, sum(content) & 0xFF)


class Peer:
    """A stub on the other end of a socket: answers by a table, notes what it was asked."""

    def __init__(self, answers=None):
        self.ours, self.theirs = socket.socketpair()
        self.asked: list[bytes] = []
        self.memory = bytearray(MEMORY)
        self.answers = answers or {}
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        received = b""
        while data := self.theirs.recv(65536):
            received += data
            if b"\x03" in received:
                received = received.replace(b"\x03", b"")
                self.asked.append(b"interrupt")
                self.theirs.sendall(framed(b"T02thread:01;"))
            while b"#" in received[:-2]:
                start, end = received.find(b"$"), received.find(b"#")
                command, received = received[start + 1 : end], received[end + 3 :]
                self.asked.append(command)
                self.say(self.answer(command))

    def say(self, answer):
        if answer is None:
            self.theirs.shutdown(socket.SHUT_RDWR)
            return
        if answer:
            sent = answer if answer.startswith(b"!") else b"+" + framed(answer)
            for place in range(0, len(sent), 7):
                self.theirs.sendall(sent[place : place + 7].removeprefix(b"!"))

    def answer(self, command):
        if command in self.answers:
            return self.answers[command]
        if command.startswith(b"m"):
            start, size = (int(part, 16) for part in command[1:].split(b","))
            return bytes(self.memory[start : start + size]).hex().encode()
        if command.startswith(b"M"):
            place, data = command[1:].split(b":")
            start = int(place.split(b",")[0], 16)
            self.memory[start : start + len(data) // 2] = bytes.fromhex(data.decode())
            return b"OK"
        return b"OK" if command.startswith(b"Z") else b"T05thread:01;"


def refused(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert (caught.value.code, bool(caught.value.hint)) == ("emulator-failed", True)
    return caught.value.what


def test_memory_goes_in_pieces():
    peer = Peer()
    stub = GdbStub(peer.ours)
    assert stub.read(5, 3000) == MEMORY[5:3005]
    stub.write(100, bytes(2000))
    assert stub.read(90, 2020) == MEMORY[90:100] + bytes(2000) + MEMORY[2100:2110]
    assert [asked for asked in peer.asked if asked[:1] == b"m"][:3] == [b"m5,400", b"m405,400", b"m805,3b8"]


def test_it_steps_off_a_stop_before_it_goes_on():
    peer = Peer()
    stub = GdbStub(peer.ours)
    stub.stop_at(0x1234)
    assert stub.go(5) is True
    assert peer.asked == [b"?", b"Z0,1234,2", b"s", b"c"]


def test_what_does_not_stop_is_halted():
    peer = Peer({b"c": b""})
    stub = GdbStub(peer.ours)
    assert stub.go(0.1) is False
    assert peer.asked[-1] == b"interrupt"
    assert stub.read(0, 4) == MEMORY[:4]


@pytest.mark.parametrize(
    ("command", "answer", "told"),
    [
        (b"m10,4", b"E14", "QEMU gave no answer: it did not read 4 bytes at 0x00000010 (E14)"),
        (b"m10,4", b"0011", "QEMU gave no answer: it did not read 4 bytes at 0x00000010 (0011)"),
        (b"m10,4", b"!$00112233#00", "QEMU gave no answer: a packet was damaged"),
        (b"m10,4", None, "QEMU gave no answer: it ended"),
    ],
)
def test_answers_that_are_none(command, answer, told):
    stub = GdbStub(Peer({command: answer}).ours)
    assert refused(lambda: stub.read(16, 4)) == told


def test_refusals_and_silence(monkeypatch):
    stub = GdbStub(Peer({b"Z0,10,2": b"", b"M10,1:ff": b"E22"}).ours)
    assert refused(lambda: stub.write(16, b"\xff")) == (
        "QEMU gave no answer: it did not write 1 bytes at 0x00000010 (E22)"
    )
    monkeypatch.setattr(gdb_stub, "_ANSWER_SECONDS", 0.1)
    before = time.monotonic()
    assert refused(lambda: stub.stop_at(16)) == "QEMU gave no answer: it said nothing for 0.1 seconds"
    assert time.monotonic() - before < 5
