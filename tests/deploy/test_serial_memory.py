from __future__ import annotations

import random
import struct
import subprocess
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("serial")

from noisy_line import NoisyLine

import edgeprune.firmware
from edgeprune.deploy import serial_frames, serial_memory
from edgeprune.deploy.mailbox import BYTES, RUN, Mailbox, MailboxClient
from edgeprune.deploy.serial_frames import Decoder, Frame, encode, stuffed, unstuffed
from edgeprune.deploy.serial_memory import SerialMemory
from edgeprune.errors import EdgepruneError
from edgeprune.target import load_target
from edgeprune.toolchain import compile_c

FIRMWARE = Path(edgeprune.firmware.__file__).parent
ARENA = 4000
RESET = 100000


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The firmware's serial side for this machine, its addresses below 4 GB."""
    folder = tmp_path_factory.mktemp("uart")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-fno-pie", "-no-pie", "-fsanitize=undefined"]
    flags += ["-fsanitize-trap=undefined", "-I", str(FIRMWARE)]
    sources = [str(FIRMWARE / "uart.c"), str(Path(__file__).parents[1] / "uart_host.c")]
    compile_c(load_target("host"), [*flags, *sources, "-o", "board"], folder)
    return folder / "board"


@pytest.fixture
def board(program):
    """Boards at the end of lines; all of them end with the test."""
    made = []

    def plug(**noise):
        line = NoisyLine(**noise)
        made.append((line, subprocess.Popen([program, line.board])))
        return line

    yield plug
    for line, process in made:
        process.kill()
        process.wait()
        line.cut()


def memory(line, seconds=20.0):
    reached = SerialMemory(line.host, 115200, busy_seconds=seconds, session=lambda: 0x4321)
    reached.connect()
    return reached


def failure(work, *arguments):
    with pytest.raises(EdgepruneError) as caught:
        work(*arguments)
    return caught.value


def infer(reached, data, argument=1):
    """The cycles and the arena after one run."""
    client = MailboxClient(reached, reached.mailbox_address)
    arena = client.state().arena_address
    reached.write(arena, data)
    cycles = client.call(RUN, argument, 20.0).cycles
    return cycles, reached.read(arena, len(data))


def after_a_run(data):
    return bytes((byte + 1) & 0xFF for byte in data)


@given(st.binary(max_size=1200))
def test_stuffing(data):
    made = stuffed(data)
    assert 0 not in made and unstuffed(made) == data and len(made) <= len(data) + len(data) // 254 + 1


@given(st.lists(st.binary(max_size=40), max_size=4), st.binary(max_size=60), st.integers(0, 2**32))
def test_frames_are_found_among_noise(bodies, noise, seed):
    frames = [Frame(number, 3, 0xABCD, body) for number, body in enumerate(bodies)]
    data = noise + b"".join(encode(frame) for frame in frames)
    draw, decoder, found = random.Random(seed), Decoder(), []
    while data:
        size = draw.randrange(1, 30)
        found, data = found + decoder.feed(data[:size]), data[size:]
    assert found == frames


def test_damaged_frames_are_passed_over():
    good = encode(Frame(1, 2, 3, b"abc"))
    for place in range(1, len(good) - 1):
        for bit in range(8):
            damaged = good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :]
            assert Decoder().feed(damaged) == []
    assert Decoder().feed(b"\0" + stuffed(b"ab" + struct.pack("<I", zlib.crc32(b"ab"))) + b"\0") == []


def test_what_comes_without_an_end_takes_no_memory():
    decoder = Decoder()
    for _ in range(100):
        assert decoder.feed(b"x" * 10000) == []
    assert len(decoder._waiting) <= 5000
    assert decoder.feed(encode(Frame(1, 2, 3, b""))) == [Frame(1, 2, 3, b"")]


def test_a_model_is_run(board):
    reached = memory(board())
    for seed, size in enumerate((1, 4, 17, 512, 513, ARENA)):
        data = random.Random(seed).randbytes(size)
        assert infer(reached, data, argument=seed) == (2 * seed, after_a_run(data))
    steps = MailboxClient(reached, reached.mailbox_address).state()
    assert struct.unpack("<3I", reached.read(steps.step_cycles_address, 12)) == (11, 22, 33)
    reached.close()


def test_it_is_reached_at_its_first_use(board):
    reached = memory(board())
    arena = MailboxClient(reached, reached.mailbox_address).state().arena_address
    for _ in range(2):
        reached.close()
        reached.write(arena, bytes(range(200)))
        reached.close()
        assert reached.read(arena, 200) == bytes(range(200))


def test_a_run_that_takes_longer_than_an_answer(board, monkeypatch):
    monkeypatch.setattr(serial_memory, "_POLL_SECONDS", 0.2)
    reached = memory(board())
    assert infer(reached, b"abcd", argument=2500) == (5000, b"bcde")


def test_a_run_whose_start_was_not_answered(board, monkeypatch):
    monkeypatch.setattr(serial_memory, "_SLACK_SECONDS", 0.05)
    reached = memory(board())
    hear, lost = reached._hear, []

    def deaf(seconds, number):
        answer = hear(seconds, number)
        if answer and answer.body == struct.pack("<I", 1) and not lost:
            lost.append(answer)
            return None
        return answer

    monkeypatch.setattr(reached, "_hear", deaf)
    assert infer(reached, b"abcd", argument=1500) == (3000, b"bcde")
    assert lost


@pytest.mark.parametrize("seed", range(3))
def test_lost_and_added_bytes(board, seed, monkeypatch):
    monkeypatch.setattr(serial_memory, "_SLACK_SECONDS", 0.05)
    monkeypatch.setattr(serial_memory, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(serial_memory, "_TRIES", 40)
    reached = memory(board(seed=seed, loses=0.004, adds=0.004))
    for size in (3, 100, 300):
        data = random.Random(size).randbytes(size)
        assert infer(reached, data) == (2, after_a_run(data))


def test_a_reset_in_the_middle(board):
    reached = memory(board())
    state = MailboxClient(reached, reached.mailbox_address).state()
    reached.write(state.arena_address, b"input")
    reached.write(reached.mailbox_address + 24, struct.pack("<I", RESET))
    reached.write(reached.mailbox_address + 16, struct.pack("<I", 1))
    assert str(failure(reached.read, state.arena_address, 5)) == (
        f"the board was reset while it was in use [board-reset]\n  where: {reached._device}\n"
        "  hint:  repeat what you did: what was written to it before is lost"
    )
    assert reached.read(state.arena_address, 5) == bytes(5)
    assert infer(reached, b"again") == (2, b"bhbjo")


def test_a_line_that_goes_dead_ends_in_time_and_comes_back(board, monkeypatch):
    monkeypatch.setattr(serial_memory, "_SLACK_SECONDS", 0.05)
    line = board()
    reached = memory(line, seconds=0.5)
    line.dead, start = True, time.monotonic()
    error = failure(reached.read, reached.mailbox_address, BYTES)
    assert (error.code, error.what) == ("probe-lost", "the connection was lost: it does not answer")
    assert time.monotonic() - start < 8
    assert str(failure(reached.connect)) == (
        f"no firmware of edgeprune answers [probe-missing]\n  where: {line.host}\n"
        "  hint:  flash the package again; see that the baud rate in the board's file is the firmware's"
    )
    line.dead = False
    assert infer(reached, b"abc") == (2, b"bcd")


def test_a_run_that_never_ends(board, monkeypatch):
    monkeypatch.setattr(serial_memory, "_SLACK_SECONDS", 0.05)
    monkeypatch.setattr(serial_memory, "_POLL_SECONDS", 0.1)
    reached = memory(board(), seconds=0.5)
    error = failure(infer, reached, b"abcd", 60000)
    assert (error.code, error.what) == (
        "probe-lost",
        "the connection was lost: it did not finish, asked for 0.5 s",
    )


def test_a_line_that_never_stops_talking(board, monkeypatch):
    monkeypatch.setattr(serial_memory, "_SLACK_SECONDS", 0.05)
    line = board()
    reached = memory(line, seconds=0.2)
    line.dead, start = True, time.monotonic()
    for _ in range(50):
        line.babble(bytes(range(1, 64)))
    assert failure(reached.read, reached.mailbox_address, 4).code == "probe-lost"
    assert time.monotonic() - start < 8


def test_a_cut_line(board):
    line = board()
    reached = memory(line)
    line.cut()
    assert failure(reached.read, reached.mailbox_address, 4).code == "probe-lost"


def test_memory_is_guarded(board):
    reached = memory(board())
    state = MailboxClient(reached, reached.mailbox_address).state()
    arena, end = state.arena_address, state.arena_address + ARENA
    for address, size in (
        (0, 4),
        (end, 1),
        (end - 3, 4),
        (arena - 4, 8),
        (0xFFFFFFFC, 8),
        (state.step_cycles_address, 16),
    ):
        assert str(failure(reached.read, address, size)) == (
            f"the firmware lets nobody at its memory from 0x{address:08x} [memory-fault]\n"
            f"  where: {reached._device}\n  hint:  flash the package again, then retry"
        )
    fields = Mailbox._fields
    for name in ("magic", "arena_address", "arena_bytes", "step_cycles_address", "done_sequence", "status"):
        address = reached.mailbox_address + 4 * fields.index(name)
        assert failure(reached.write, address, bytes(4)).code == "memory-fault"
    assert failure(reached.write, state.step_cycles_address, bytes(4)).code == "memory-fault"
    assert reached.read(end - 3, 3) == bytes(3) and reached.read(arena, 0) == b""


def test_other_firmware(board, monkeypatch):
    monkeypatch.setattr(serial_memory, "_VERSION", 7)
    line = board()
    assert str(failure(memory, line)) == (
        "its firmware speaks version 1 of the serial line, and this is 7 [mailbox-missing]\n"
        f"  where: {line.host}\n  hint:  flash the package again, then retry"
    )


def test_both_sides_mean_the_same():
    header = (FIRMWARE / "uart.h").read_text()
    for name, value in (("HELLO", serial_frames.HELLO), ("READ", serial_frames.READ), ("WRITE", serial_frames.WRITE)):
        assert f"EDGE_UART_{name} = {value}" in header
    assert f"EDGE_UART_DONE = 0x{serial_frames.DONE:x}" in header
    assert f"EDGE_UART_ADDRESS = {serial_frames.ADDRESS}, EDGE_UART_SESSION = {serial_frames.SESSION}" in header
