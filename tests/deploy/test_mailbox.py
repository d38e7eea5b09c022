from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.deploy.mailbox import BENCH, BYTES, RUN, MailboxClient, find_mailbox, parse_mailbox
from edgeprune.errors import EdgepruneError

WORDS = (0x4D474445, 1, 0, 1, 0, 0, 0, 0, 7, 1, 0x20000100, 512, 3, 0x20000080, 4_000_000, 0x03020100, 0x07060504)


class Device:
    """Memory with a device behind it that does what it is asked after some waits."""

    def __init__(self, base=0x20000000, waits=2, status=3, words=WORDS):
        self.base, self.waits, self.status = base, waits, status
        self.content = bytearray(struct.pack("<17I", *words) + bytes(1024))
        self.asked: list[tuple[int, int]] = []

    def read(self, address, size):
        return bytes(self.content[address - self.base : address - self.base + size])

    def write(self, address, data):
        self.content[address - self.base : address - self.base + len(data)] = data

    def wait(self, seconds):
        assert seconds > 0
        self.waits -= 1
        command, _, sequence, _, argument = struct.unpack_from("<5I", self.content, 8)
        if self.waits == 0 and command:
            self.asked.append((command, argument))
            struct.pack_into("<I", self.content, 12, self.status)
            struct.pack_into("<I", self.content, 20, sequence)
            struct.pack_into("<I", self.content, 28, 9)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.5
        return self.now


def refused(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert (caught.value.where, bool(caught.value.hint)) == ("mailbox", True)
    return caught.value.code, caught.value.what


def test_the_words_are_read_in_their_order():
    mailbox = parse_mailbox(struct.pack("<17I", *WORDS) + b"behind")
    assert (mailbox.cycles, mailbox.arena_address, mailbox.arena_bytes) == ((1 << 32) + 7, 0x20000100, 512)
    assert (mailbox.step_count, mailbox.step_cycles_address, mailbox.clock_hz) == (3, 0x20000080, 4_000_000)
    assert mailbox.library == bytes(range(8))


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((0, *WORDS[1:]), "no firmware of edgeprune answers there"),
        ((WORDS[0], 2, *WORDS[2:]), "its firmware speaks version 2 of the mailbox, and this is 1"),
    ],
)
def test_what_is_no_mailbox_is_refused(words, what):
    assert refused(lambda: parse_mailbox(struct.pack("<17I", *words))) == ("mailbox-missing", what)
    assert refused(lambda: parse_mailbox(b"short"))[0] == "mailbox-missing"


def test_commands_are_done_in_turn():
    device = Device()
    client = MailboxClient(device, device.base, Clock())
    assert client.call(RUN).done_sequence == 1
    device.waits = 2
    assert client.call(BENCH, 5).done_sequence == 2
    assert device.asked == [(RUN, 0), (BENCH, 5)]


def test_a_device_that_does_not_answer_is_given_up():
    client = MailboxClient(Device(waits=1 << 30), 0x20000000, Clock())
    assert refused(lambda: client.call(RUN, seconds=3)) == (
        "mailbox-timeout",
        "the board did not finish within 3 seconds",
    )
    booting = Device(waits=1 << 30, words=(*WORDS[:3], 0, *WORDS[4:]))
    told = refused(lambda: MailboxClient(booting, booting.base, Clock()).wait_ready(2))
    assert told == ("mailbox-timeout", "the board did not start within 2 seconds")


def test_a_refusal_is_told():
    client = MailboxClient(Device(status=4), 0x20000000, Clock())
    assert refused(lambda: client.call(RUN)) == ("mailbox-failed", "the firmware refused what it was asked (error 9)")


@given(st.integers(0, 700), st.sampled_from([64, 256, 1024]))
def test_the_mailbox_is_found_by_its_magic(place, step):
    device = Device()
    device.content = bytearray(1024)
    device.content[4 * (place // 4) : 4 * (place // 4) + BYTES] = struct.pack("<17I", *WORDS)
    assert find_mailbox(device, device.base, 1024, step) == device.base + 4 * (place // 4)


def test_memory_without_a_mailbox_is_refused():
    device = Device()
    device.content = bytearray(b"\x45" * 1024)
    code, what = refused(lambda: find_mailbox(device, device.base, 1024, 100))
    assert (code, what) == (
        "mailbox-missing",
        "no firmware of edgeprune answers: no mailbox from 0x20000000 to 0x20000400",
    )
