"""The firmware's side of MLPerf Tiny: its code on this machine behind a pty, and as firmware on emulated hardware."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("serial")

from mlperf_peer import BYTES, PtyDevice, build_device, said_in
from noisy_line import NoisyLine
from tiny_bare import SOURCE, SOURCE_WITHOUT_FLOATS, link, tiny_firmware, tiny_inputs, tiny_outputs

from edgeprune.bare_model import BareModel, BareTensor
from edgeprune.board import load_board
from edgeprune.chip import load_chip
from edgeprune.deploy.mlperf_board import speaking
from edgeprune.deploy.unicorn_board import UnicornBoard
from edgeprune.elf import read_elf
from edgeprune.errors import EdgepruneError
from edgeprune.firmware.mlperf_tiny import PIXELS, MlperfTiny, mlperf_tiny_of

needs_qemu = pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed")
TINY = MlperfTiny("tiny", 16)
GREETING = ["m-timestamp-mode-performance", "m-lap-us-N", "m-init-done", "m-ready"]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build_device(tmp_path_factory.mktemp("mlperf"))


@pytest.fixture
def plug(program):
    """The lines to devices behind ptys, which end with the test."""
    made = []

    def make(other=None, **facts):
        made.append(PtyDevice(other or program, **facts))
        return made[-1].line

    yield make
    for device in made:
        device.close()


def say(line, command):
    """The lines that answer `command`, up to the last of as many readys as it holds commands."""
    line.write(command if isinstance(command, bytes) else command.encode())
    wanted, text = max(1, command.count(b"%" if isinstance(command, bytes) else "%")), ""
    while text.count("m-ready\r\n") < wanted:
        part = line.read(5).decode()
        assert part, f"{command!r} is not answered: {text!r}"
        text += part
    return text.split("\r\n")[:-1]


def shape_of(lines):
    """Lines without what differs from board to board."""
    plain = [
        re.sub(r"m-model-\[.*\]", "m-model-[M]", re.sub(r"m-results-\[.*\]", "m-results-[R]", line)) for line in lines
    ]
    return [line if line.startswith("m-profile") else re.sub(r"-[0-9]+$", "-N", line) for line in plain]


def greeted(line):
    assert shape_of(say(line, b"")) == GREETING
    return line


def load(line, data):
    for command in (f"db load {len(data)}%", *(f"db {data[at : at + 32].hex()}%" for at in range(0, len(data), 32))):
        last = say(line, command)
    assert last == ["m-load-done", "m-ready"]


def reals(lines):
    [told] = [line for line in lines if line.startswith("m-results")]
    return told.removeprefix("m-results-[").removesuffix("]").split(",")


def test_every_command_is_answered(plug):
    line = greeted(plug())
    assert say(line, "name%") == ["m-name-dut-[edgeprune]", "m-ready"]
    assert say(line, "profile%") == ["m-profile-[ULPMark for tinyML Firmware V0.0.1]", "m-model-[kws01]", "m-ready"]
    assert shape_of(say(line, "timestamp%")) == ["m-lap-us-N", "m-ready"]
    assert "infer N [W]" in say(line, "help%")[0]
    assert say(line, f"db load {BYTES}%") == [f"m-[Expecting {BYTES} bytes]", "m-ready"]
    data = bytes(range(100, 100 + BYTES))
    assert say(line, f"db {data[:40].hex()}%") == ["m-ready"]
    assert say(line, f"db {data[40:].hex().upper()}ffff%") == ["m-load-done", "m-ready"]
    printed = say(line, "db print%")
    assert bytes.fromhex("".join(text.removeprefix("m-buffer-").replace("-", "") for text in printed[:-1])) == data
    assert printed[0] == "m-buffer-64-65-66-67-68-69-6a-6b" and len(printed) == 9
    told = say(line, "infer 3 2%")
    assert shape_of(told) == [
        *("m-warmup-start-N", "m-warmup-done", "m-infer-start-N", "m-lap-us-N", "m-lap-us-N", "m-infer-done"),
        *("m-results-[R]", "m-ready"),
    ]
    assert told[0] == "m-warmup-start-2" and told[2] == "m-infer-start-3"
    assert say(line, "results%") == told[-2:]
    assert say(line, "infer%")[0] == "m-warmup-start-10"


def test_every_inference_begins_with_the_input(plug, tmp_path):
    line = greeted(plug(build_device(tmp_path, "ic01", PIXELS), milliseconds=1))
    load(line, bytes([0, 128, 255, *range(BYTES - 3)]))
    wanted = [-127, 1, -128, *(each - 127 for each in range(BYTES - 3))]
    assert [float(text) for text in reals(say(line, "infer 3 1%"))] == wanted


def test_time_is_told_in_microseconds(plug):
    line = greeted(plug(milliseconds=20))
    first, second = (int(text[9:]) for text in say(line, "infer 10 0%") if text.startswith("m-lap"))
    assert 200_000 <= (second - first) % 2**32 < 5_000_000


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("%", "Unknown command: "),
        ("names%", "Unknown command: names"),
        ("na\x01me%", "Unknown command: na?me"),
        ("db%", "db wants load, print or bytes"),
        ("db 00%", "db load comes before bytes"),
        ("db load%", f"the input of this model is of bytes: {BYTES}"),
        (f"db load {BYTES + 1}%", f"the input of this model is of bytes: {BYTES}"),
        ("db load -1%", f"the input of this model is of bytes: {BYTES}"),
        (f"db load {BYTES}%db 0%", "db wants two hexadecimal digits a byte"),
        (f"db load {BYTES}%db 0g%", "db wants two hexadecimal digits a byte"),
        (f"db load {BYTES}%db 0000%infer 1%", f"the input lacks bytes: {BYTES - 2}"),
        ("infer 0%", "infer wants a number of runs from 1 and of warmups from 0"),
        ("infer 1 -1%", "infer wants a number of runs from 1 and of warmups from 0"),
        ("infer 99999999999999999999%", "infer wants a number of runs from 1 and of warmups from 0"),
        ("x" * 513 + "%", "the command is too long"),
    ],
)
def test_what_is_wrong_is_told(plug, command, why):
    line = greeted(plug())
    assert say(line, command)[-2:] == [f"e-[{why}]", "m-ready"]
    assert say(line, "\r\n  name %") == ["m-name-dut-[edgeprune]", "m-ready"]


def float_text(value):
    if not np.isfinite(value):
        return "nan" if np.isnan(value) else "inf" if value > 0 else "-inf"
    return value


@given(st.lists(st.floats(width=32), min_size=16, max_size=16), st.integers(0, 2**32 - 1))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_real_outputs_have_six_decimals(floats, values, bits):
    values = [*values[:-1], struct.unpack("<f", struct.pack("<I", bits))[0]]
    load(floats, np.array(values, "<f4").tobytes())
    for text, value in zip(reals(say(floats, "infer 1 0%")), values, strict=True):
        if not np.isfinite(value):
            assert text == float_text(value)
        elif abs(value) < 1e12:
            assert re.fullmatch(r"-?[0-9]+\.[0-9]{6}", text)
            assert float(text) == pytest.approx(value, rel=2e-7, abs=5.1e-7)
        else:
            assert abs(float(text)) >= 1e12 and (float(text) < 0) == (value < 0)


@pytest.fixture(scope="module")
def floats(program):
    device = PtyDevice(program, "float32", 4)
    yield greeted(device.line)
    device.close()


@pytest.mark.parametrize(
    ("dtype", "scale", "zero"),
    [("int8", 0.00390625, -128), ("uint8", 0.1171, 3), ("int16", 3.7e-5, -5), ("int32", 0.0, 0), ("int32", 1e-4, 7)],
)
def test_stored_outputs_are_told_as_real_numbers(plug, dtype, scale, zero):
    size = np.dtype(dtype).itemsize
    line = greeted(plug(dtype=dtype, size=size, scale=scale, zero=zero))
    data = np.random.default_rng(4).integers(0, 256, BYTES, np.uint8)
    data[:12] = [0, 0, 0, 128, 255, 255, 255, 127, 0, 0, 0, 0]
    load(line, data.tobytes())
    stored = data.view(dtype).astype(np.int64)
    wanted = (stored - zero) * np.float64(np.float32(scale)) if scale else stored.astype(np.float64)
    if dtype == "int32" and scale:
        wanted = ((stored - zero + 2**31) % 2**32 - 2**31) * np.float64(np.float32(scale))
    told = [float(text) for text in reals(say(line, "infer 1 0%"))]
    np.testing.assert_allclose(told, wanted, rtol=1e-9, atol=5.1e-7)


PIECES = ["infer 1 1", "db load 64", "db ", "00ff", "zz", "%", "%", " ", "results", "name", "\r\n", "print", "help"]


@given(st.lists(st.sampled_from(PIECES).map(str.encode) | st.binary(max_size=40), max_size=30))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_comes_stops_it(floats, pieces):
    text = b"".join(pieces)
    lines = say(floats, text + b"%")
    assert lines.count("m-ready") == text.count(b"%") + 1
    assert all(re.fullmatch(r"(m-|e-\[|name, ).*", line) for line in lines)
    load(floats, bytes(BYTES))


def test_transcripts_of_a_board_are_repeated(plug, data_dir):
    for log in sorted((data_dir / "sets" / "device_logs").glob("*.log")):
        line = greeted(plug())
        for command, wanted in said_in(log)[:30]:
            if command.startswith("bload"):
                load(line, bytes(range(BYTES)))
            else:
                assert shape_of(say(line, f"{command}%")) == shape_of(wanted), log.name


def row_bytes(firmware, inputs, row):
    return b"".join(tensor.stored(inputs[tensor.name][row]) for tensor in firmware.model.inputs)


@pytest.mark.parametrize(
    ("board", "source"),
    [
        ("emulated-m4", None),
        ("emulated-m7", None),
        ("emulated-m0plus", SOURCE_WITHOUT_FLOATS),
        ("emulated-rv32", SOURCE_WITHOUT_FLOATS),
        pytest.param("qemu-mps3-an547", None, marks=needs_qemu),
    ],
)
def test_emulated_boards_serve_it_in_memory(board, source):
    facts = load_board(board)
    firmware = link(load_chip(facts.chip), source, mlperf_tiny=TINY)
    inputs = tiny_inputs(2)
    wanted = tiny_outputs(inputs)["scaled"]
    with speaking(firmware, facts) as spoken:
        assert spoken.take_regions is not None
        spoken.take_regions()
        device = spoken.runner.connect()
        assert (device.name, device.model) == ("edgeprune", "tiny")
        for row in range(2):
            spoken.runner.load(row_bytes(firmware, inputs, row))
            told = spoken.runner.infer(2, 1).results
            np.testing.assert_allclose(told, wanted[row].reshape(-1), atol=1e-6)
        regions = spoken.take_regions()
        assert len(regions) == 6 and min(regions) > 30
        assert len(set(regions[:3])) == len(set(regions[3:])) == 1
        assert spoken.runner.connect() == device


@pytest.fixture
def probed(monkeypatch):
    """A real board's runner, with the emulated core behind it that a probe would reach, and what was done to that."""
    told = []

    class Probe(UnicornBoard):
        def connect(self):
            told.append("connected")

        def close(self):
            told.append("closed")

    def start(chip_name, board_name, source=None):
        chip = load_chip(chip_name)
        firmware = link(chip, source, mlperf_tiny=TINY)
        probe = Probe(firmware.elf, chip)
        monkeypatch.setattr("edgeprune.deploy.bare.memory_for", lambda board, _: probe)
        return speaking(firmware, load_board(board_name)), probe, told

    return start


def test_a_board_behind_a_probe_serves_it_in_memory(probed):
    speaks, _, told = probed("emulated-m4", "nucleo-l4r5zi")
    with speaks as spoken:
        assert spoken.take_regions is None and spoken.runner.connect().model == "tiny"
    assert told == ["connected", "closed"]


def test_cycles_become_microseconds(probed):
    speaks, core, _ = probed("emulated-m4", "nucleo-l4r5zi")
    with speaks as spoken:
        spoken.runner.connect()
        start, cycles = spoken.runner.timestamp(), 0
        for passed in (120_000_000, 3_999_999_999, 1, 2_500_000_000, 12_345_678, 4_294_967_295):
            cycles += passed
            core.write(0xE0001004, (cycles % 2**32).to_bytes(4, "little"))
            assert (spoken.runner.timestamp() - start) % 2**32 == cycles // 120


def test_a_counter_of_24_bits_that_counts_down_becomes_microseconds(probed):
    speaks, core, _ = probed("emulated-m0plus", "raspberry-pi-pico", SOURCE_WITHOUT_FLOATS)
    megahertz = load_chip("emulated-m0plus").reset_mhz
    with speaks as spoken:
        spoken.runner.connect()
        start, left, cycles = spoken.runner.timestamp(), 0, 0
        for passed in (1_000_000, 16_777_215, 5, 9_999_999) * 40:
            cycles, left = cycles + passed, (left - passed) % 2**24
            core.write(0xE000E018, left.to_bytes(4, "little"))
            assert spoken.runner.timestamp() - start == int(cycles / megahertz)


def test_answers_longer_than_the_line_arrive_whole():
    source = SOURCE.replace("{1, 1}", "{1, 300}").replace(
        '{"sum", "float32", 2, sum_shape, 4, 0, 0, 48}', '{"sum", "int8", 2, sum_shape, 300, 0.5f, 0, 64}'
    )
    source = source.replace("*sum = (float)total * 0.5f;", "for (int i = 0; i < 300; i++) first[64 + i] = i;")
    source = source.replace('{"scaled", "int8", 2, first_shape, 8, 0.125f, 5, 32},', "").replace(
        "64, 2, inputs, 2,", "400, 2, inputs, 1,"
    )
    firmware = link(load_chip("emulated-m4"), source, mlperf_tiny=TINY, arena_bytes=400)
    with speaking(firmware, load_board("emulated-m4")) as spoken:
        spoken.runner.connect()
        told = spoken.runner.infer().results
    np.testing.assert_array_equal(told, np.arange(300).astype(np.int8) * 0.5)


@needs_qemu
def test_it_is_served_over_the_uart_of_a_chip(tmp_path):
    chip = load_chip("mps2-an386")
    firmware, line = link(chip, uart=True, mlperf_tiny=TINY), NoisyLine()
    assert "edge_line" not in read_elf(firmware.elf).symbols
    (tmp_path / "firmware.elf").write_bytes(firmware.elf)
    command = ["qemu-system-arm", "-M", chip.machine, "-display", "none", "-monitor", "none", "-serial", line.board]
    board = subprocess.Popen([*command, "-kernel", tmp_path / "firmware.elf"])
    try:
        facts = msgspec.structs.replace(load_board("qemu-mps2-an386"), transport="uart", device=line.host)
        inputs = tiny_inputs(1)
        with speaking(firmware, facts) as spoken:
            assert spoken.take_regions is None and spoken.runner.connect().model == "tiny"
            spoken.runner.load(row_bytes(firmware, inputs, 0))
            told = spoken.runner.infer(100, 5).results
        np.testing.assert_allclose(told, tiny_outputs(inputs)["scaled"].reshape(-1), atol=1e-6)
    finally:
        board.kill()
        board.wait()
        line.cut()


def test_esp32_firmware_takes_time_from_its_timer():
    firmware = link(load_chip("esp32-c3"), SOURCE_WITHOUT_FLOATS, uart=True, mlperf_tiny=TINY)
    assert len(firmware.elf) > len(link(load_chip("esp32-c3"), SOURCE_WITHOUT_FLOATS, uart=True).elf)


def test_a_chip_without_a_known_clock_is_refused():
    with pytest.raises(EdgepruneError) as caught:
        link(load_chip("rp2350"), mlperf_tiny=TINY)
    what = "the clock of chip rp2350 after reset is not known, and MLPerf Tiny wants times"
    assert (caught.value.code, caught.value.what) == ("firmware-clock", what)
    assert caught.value.hint.startswith("give reset_mhz in the chip's file")


def test_firmware_without_it_is_as_before():
    assert b"ULPMark" not in tiny_firmware().elf


@pytest.mark.parametrize(
    ("dtype", "shape", "values", "wanted"),
    [
        ("int8", (1, 49, 10, 1), 12, MlperfTiny("kws01", 490)),
        ("int8", (1, 32, 32, 3), 10, MlperfTiny("ic01", 3072, PIXELS)),
        ("int8", (1, 96, 96, 3), 2, MlperfTiny("vww01", 27648, PIXELS)),
        ("float32", (1, 640), 640, MlperfTiny("ad01", 2560)),
        ("float32", (1, 32, 32, 3), 10, MlperfTiny("my-model-", 12288)),
        ("int8", (1, 32, 32, 3), 100, MlperfTiny("my-model-", 3072)),
    ],
)
def test_benchmarks_are_known_by_their_ports(dtype, shape, values, wanted):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    given = BareTensor("x", dtype, shape, size, 0.5, 0, 0)
    made = BareTensor("y", dtype, (1, values), values, 0.5, 0, 0)
    assert mlperf_tiny_of(BareModel('my model"', "cortex-m4", size, (given,), (made,), ())) == wanted
