"""What a real board tells: cycles of a counter and a clock, in place of an emulator's counts."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeprune.bare_model import BareModel, BareTensor
from edgeprune.deploy.mailbox import BYTES
from edgeprune.deploy.mailbox_runner import MailboxRunner
from edgeprune.errors import EdgepruneError

BASE, ARENA, STEPS = 0x20000000, 0x20000200, 0x20000100
TENSOR = BareTensor("x", "int8", (2, 3), 6, 0.5, 3, 0)
OUT = BareTensor("y", "int8", (2, 3), 6, 0.25, -4, 16)
MODEL = BareModel("m", "cortex-m4", 64, (TENSOR,), (OUT,), ("first", "second"))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Device:
    """Adds one to each stored value; a run takes `cycles`, each time `growth` more, at `hertz` of the host's clock."""

    def __init__(self, clock, told_hertz, hertz=1e6, cycles=20_000, growth=1):
        self.clock, self.hertz, self.cycles, self.growth, self.runs = clock, hertz, cycles, growth, 0
        words = (0x4D474445, 1, 0, 1, 0, 0, 0, 0, 0, 0, ARENA, 64, 2, STEPS, told_hertz, 0, 0)
        self.content = bytearray(struct.pack("<17I", *words).ljust(1024, b"\0"))

    def read(self, address, size):
        return bytes(self.content[address - BASE : address - BASE + size])

    def write(self, address, data):
        self.content[address - BASE : address - BASE + len(data)] = data

    def wait(self, seconds):
        command, _, sequence, done, argument = struct.unpack_from("<5I", self.content, 8)
        if sequence == done:
            return
        total = 0
        for _ in range(1 if command == 1 else argument):
            total += self.cycles + self.growth * self.runs
            self.runs += 1
        self.clock.now += total / self.hertz
        values = np.frombuffer(self.read(ARENA, 6), np.int8) + np.int8(1)
        self.write(ARENA + 16, values.tobytes())
        struct.pack_into("<2I", self.content, 32, total & 0xFFFFFFFF, total >> 32)
        struct.pack_into("<2I", self.content, STEPS - BASE, 5_000, 15_000)
        struct.pack_into("<I", self.content, 12, 3)
        struct.pack_into("<I", self.content, 20, sequence)


def runner(**facts):
    clock = Clock()
    device = Device(clock, **facts)
    return MailboxRunner(device, BASE, MODEL, clock=clock), device


def test_rows_go_through_the_arena():
    made, _ = runner(told_hertz=1_000_000)
    rows = np.array([[[0.5, 1.0, -1.0], [0, 2, 3]], [[4, 5, 6], [7, 8, 9]]], np.float32)
    stored = rows / 0.5 + 3 + 1
    np.testing.assert_array_equal(made.run_rows({"x": rows})["y"], ((stored + 4) * 0.25).astype(np.float32))


def test_cycles_become_times_by_the_clock_that_the_board_tells():
    made, device = runner(told_hertz=1_000_000)
    told = made.bench(0.5)
    times = told.latency_ns
    assert times.runs == device.runs >= 25
    assert (times.min, times.median) == (20_000e3, (20_000 + (times.runs - 1) / 2) * 1e3)
    assert times.min < times.median < times.p90 and told.instructions is None
    assert [(layer.name, layer.time_ns) for layer in told.layers] == [("first", 5e6), ("second", 15e6)]


@pytest.mark.parametrize("hertz", [1e6, 64e6])
def test_a_clock_that_the_board_does_not_know_is_measured(hertz):
    made, _ = runner(told_hertz=0, hertz=hertz, growth=0)
    assert made.bench(0.1).latency_ns.min == pytest.approx(20_000 / hertz * 1e9, rel=0.05)


def test_counts_that_differ_are_refused():
    clock = Clock()
    made = MailboxRunner(Device(clock, 0), BASE, MODEL, take_regions=lambda: [5, 6, 1, 2, 3], clock=clock)
    with pytest.raises(EdgepruneError) as caught:
        made.bench(1)
    assert (caught.value.code, caught.value.hint) == ("emulator-failed", "report this with the package")
    assert caught.value.what == "5 regions of instructions were counted, and the runs took [5, 6]"


@given(arrays(np.float32, (2, 3), elements=st.floats(-200, 200, width=32)), st.integers(-128, 127))
def test_what_is_stored_is_the_nearest_that_can_be(values, zero):
    tensor = BareTensor("x", "int8", (2, 3), 6, 0.75, zero, 0)
    back = tensor.real(tensor.stored(values))
    low, high = (-128 - zero) * 0.75, (127 - zero) * 0.75
    assert np.abs(back - np.clip(values, low, high)).max() <= 0.375 + 1e-3
    np.testing.assert_array_equal(tensor.real(tensor.stored(back)), back)


@given(arrays(np.float32, (2, 3), elements=st.floats(width=32, allow_nan=False)))
def test_what_is_not_quantized_is_stored_as_it_is(values):
    tensor = BareTensor("x", "float32", (2, 3), 24, 0, 0, 0)
    np.testing.assert_array_equal(tensor.real(tensor.stored(values)), values)


def test_the_mailbox_of_the_firmware_is_this_long():
    assert BYTES == 68
