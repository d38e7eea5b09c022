"""The runner of MLPerf Tiny, against transcripts of a real board, devices behind ptys and scripts."""

from __future__ import annotations

import csv
import re
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("serial")

from mlperf_peer import BYTES, PtyDevice, ScriptedLine, build_device, said_in

from edgeprune.deploy.memory_line import RING, MemoryLine
from edgeprune.deploy.mlperf_protocol import Message, load_commands, parse_line
from edgeprune.deploy.mlperf_runner import Device, Inference, MlperfRunner
from edgeprune.errors import EdgepruneError

READY = b"m-ready\r\n"
NAME = b"m-name-dut-[someone]\r\n" + READY
PROFILE = b"m-profile-[P]\r\nm-model-[ic01]\r\n" + READY
GREETING = b"m-timestamp-mode-performance\r\nm-lap-us-5\r\nm-init-done\r\nm-ready\r\n"


def inferred(first, second, count=1, warmup=0, results="0.5,0.25"):
    lines = [f"m-warmup-start-{warmup}", "m-warmup-done", f"m-infer-start-{count}", f"m-lap-us-{first}"]
    lines += [f"m-lap-us-{second}", "m-infer-done", f"m-results-[{results}]", "m-ready", ""]
    return "\r\n".join(lines).encode()


def scripted(*answers, step=7):
    line = ScriptedLine(answers, step)
    return line, MlperfRunner(line, answer_seconds=2, clock=line.clock)


def failure(work, *arguments):
    with pytest.raises(EdgepruneError) as caught:
        work(*arguments)
    assert caught.value.hint and caught.value.where
    return caught.value


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("m-ready", Message("ready")),
        ("m-init-done", Message("init-done")),
        ("m-timestamp-mode-energy", Message("timestamp-mode", "energy")),
        ("m-lap-us-4294967295", Message("lap", 4294967295)),
        ("m-name-dut-[unspecified]", Message("name", "unspecified")),
        ("m-name-[plain]", Message("name", "plain")),
        ("m-profile-[ULPMark for tinyML Firmware V0.0.1]", Message("profile", "ULPMark for tinyML Firmware V0.0.1")),
        ("m-model-[kws01]", Message("model", "kws01")),
        ("m-[Expecting 490 bytes]", Message("expecting", 490)),
        ("m-load-done", Message("load-done")),
        ("m-buffer-00-ff-7f", Message("buffer", b"\x00\xff\x7f")),
        ("m-warmup-start-1", Message("warmup-start", 1)),
        ("m-warmup-done", Message("warmup-done")),
        ("m-infer-start-100", Message("infer-start", 100)),
        ("m-infer-done", Message("infer-done")),
        ("m-results-[0.000,-1.5,2]", Message("results", (0.0, -1.5, 2.0))),
        ("e-[Unknown command: x]", Message("error", "Unknown command: x")),
    ],
)
def test_every_kind_of_line_is_understood(line, wanted):
    assert parse_line(line, "port") == wanted


@given(st.text(max_size=60) | st.sampled_from(["m-lap-us-", "m-results-[]", "m-results-[1,,2]", "m-lap-us-1x", "m-"]))
def test_other_lines_are_told(line):
    if line == "m-ready" or (line.startswith("e-[") and line.endswith("]")):
        return
    assert failure(parse_line, line, "port").code == "mlperf-line"


def test_nonsense_is_shown_as_it_came():
    caught = failure(parse_line, "ESP-ROM:\x00esp32", "/dev/ttyUSB0")
    what = "the board said 'ESP-ROM:?esp32', which is no answer to a runner of MLPerf Tiny"
    assert (caught.code, caught.what, caught.where) == ("mlperf-line", what, "/dev/ttyUSB0")
    assert caught.hint == "see that nothing else uses the line and that its baud rate is the firmware's, then retry"


@given(st.binary(max_size=300), st.integers(1, 50))
def test_whatever_comes_back_ends_in_an_answer_or_an_error(data, step):
    for work in ("infer", "results", "timestamp", "connect"):
        _, runner = scripted(data, data + READY, step=step)
        try:
            getattr(runner, work)()
        except EdgepruneError as error:
            assert error.code.startswith("mlperf-") or error.code == "board-reset"


@pytest.mark.parametrize(("name", "most"), [("", 80), ("someone", 80), ("edgeprune", 512)])
def test_a_load_is_sent_in_commands_a_device_can_hold(name, most):
    data = bytes(range(256)) * 3
    commands = load_commands(data, name)
    assert commands[0] == "db load 768" and most / 2 < max(map(len, commands)) < most
    assert bytes.fromhex("".join(command.removeprefix("db ") for command in commands[1:])) == data


def transcripts(data_dir):
    return sorted((data_dir / "sets" / "device_logs").glob("*.log"))


def test_every_line_of_the_transcripts_is_understood(data_dir):
    kinds = {
        parse_line(text, log.name).kind for log in transcripts(data_dir) for _, said in said_in(log) for text in said
    }
    assert kinds == {
        *("profile", "model", "ready", "lap", "warmup-start", "warmup-done", "infer-start", "infer-done", "results"),
    }


def replayed(log):
    """Each inference of a transcript as the runner sees it, with the file that was loaded before it."""
    name, found = "", []
    for command, said in said_in(log):
        if command.startswith("bload"):
            name = re.search(r"([^/]*)\.bin", command)[1]
        elif command.startswith("infer"):
            count, warmup = (int(word) for word in command.split()[1:])
            line, runner = scripted("".join(f"{text}\r\n" for text in said).encode(), step=500)
            found.append((name, runner.infer(count, warmup)))
            assert line.commands == [command]
    return found


@pytest.mark.parametrize("task", ["ic", "kws"])
def test_throughput_of_transcripts_is_the_published_one(data_dir, task):
    [log] = [log for log in transcripts(data_dir) if f"_{task}_performance" in log.name]
    measured = statistics.median(told.per_second for _, told in replayed(log))
    rows = csv.DictReader((data_dir / "sets" / "mlperf_tiny_device_latency_v0.5-v1.0.csv").open())
    [published] = [row for row in rows if (row["submitter"], row["task"], row["round"]) == ("reference", task, "0.5")]
    assert measured == pytest.approx(float(published["median_inf_per_s"]), abs=6e-4)


def test_accuracy_of_a_transcript_is_near_the_published_one(data_dir):
    [log] = [log for log in transcripts(data_dir) if "_kws_accuracy" in log.name]
    right = [np.argmax(told.results) == int(name.rpartition("_")[2]) for name, told in replayed(log)]
    assert len(right) == 500 and np.mean(right) == pytest.approx(0.901, abs=0.03)


def test_a_device_is_found_after_what_it_was_in_the_middle_of():
    line, runner = scripted(b"e-[Unknown command: db 00name]\r\nm-ready\r\n", GREETING, NAME, PROFILE)
    line.left = b"\xffgarbage\r\nm-re"
    assert runner.connect() == Device("someone", "P", "ic01")
    assert line.commands == ["name", "name", "name", "profile"]


def test_a_silent_device_is_told():
    caught = failure(scripted()[1].connect)
    assert (caught.code, caught.what) == ("mlperf-silent", "no firmware of MLPerf Tiny answers")
    assert caught.hint == "flash the firmware again; see that the baud rate in the board's file is the firmware's"


def test_a_line_that_never_stops_is_told():
    line, runner = scripted()
    line.left = b"noise\r\n" * 100_000
    assert failure(runner.connect).code == "mlperf-silent"


def test_what_does_not_come_is_told():
    caught = failure(scripted(b"m-warmup-start-1\r\n")[1].infer, 3, 1)
    assert (caught.code, caught.what) == ("mlperf-timeout", "the board did not answer 'infer 3 1' within 8 seconds")
    assert caught.hint == "reset it and retry; command_seconds in the board's file allows more"
    endless = failure(scripted(b"x" * 70_000, step=4096)[1].results)
    assert endless.code == "mlperf-timeout"


def test_a_reset_is_told():
    caught = failure(scripted(b"m-warmup-start-0\r\n" + GREETING)[1].infer)
    assert (caught.code, caught.what) == ("board-reset", "the board was reset while 'infer 1 0' was done")
    assert caught.hint == "see that its supply is steady, then repeat"


def test_a_refusal_is_told():
    caught = failure(scripted(b"e-[the input of this model is of bytes: 490]\r\n" + READY)[1].load, bytes(3))
    what = "the board refuses 'db load 3': the input of this model is of bytes: 490"
    assert (caught.code, caught.what) == ("mlperf-refused", what)


@pytest.mark.parametrize(
    ("answers", "work", "what"),
    [
        ([b"m-[Expecting 9 bytes]\r\n" + READY], "load", "'db load 2' with 'm-[Expecting ...]' with another number"),
        ([b"m-[Expecting 2 bytes]\r\n" + READY, READY], "load", "'db' with 'm-load-done' too late"),
        ([inferred(1, 2, count=7)], "infer", "'infer 1 0' with 0 warmups and 7 inferences"),
        ([b"m-infer-done\r\n" + READY], "infer", "'infer 1 0' with 'infer-done ready'"),
        ([READY], "results", "'results' with 0 lines 'results'"),
        ([b"m-lap-us-1\r\nm-lap-us-2\r\n" + READY], "timestamp", "'lap' with 2 lines 'lap'"),
    ],
)
def test_answers_out_of_order_are_told(answers, work, what):
    caught = failure(getattr(scripted(*answers)[1], work), *([bytes(2)] if work == "load" else []))
    assert (caught.code, caught.what) == ("mlperf-order", f"the board answered {what}")


def test_bytes_that_are_too_many_for_the_device_are_told():
    caught = failure(scripted(b"m-[Expecting 64 bytes]\r\n" + READY, b"m-load-done\r\n" + READY)[1].load, bytes(64))
    assert caught.what == "the board answered 'db' with 'm-load-done' too early"


def test_time_goes_round():
    _, runner = scripted(inferred(2**32 - 50, 150, count=2, results="nan,inf,-inf"))
    told = runner.infer(2)
    assert (told.count, told.microseconds, told.per_second) == (2, 200, 10_000)
    assert np.isnan(told.results[0]) and told.results[1:] == (np.inf, -np.inf)


class Measured(ScriptedLine):
    """A device that takes `seconds` for an inference, and whose clock counts `drift` times as many."""

    def __init__(self, seconds, drift=1.0):
        super().__init__([], step=40)
        self.seconds, self.drift = seconds, drift

    def write(self, data):
        super().write(data)
        count, warmup = (int(word) for word in self.commands[-1].split()[1:])
        self.count = count
        passed = round(count * self.seconds * self.drift * 1e6)
        self.left = inferred(17, 17 + passed, count, warmup)

    def read(self, seconds):
        if self.left.startswith(b"m-lap-us-") and not self.left.startswith(b"m-lap-us-17\r\n"):
            self.now += self.count * self.seconds
        self.step = max(1, self.left.find(b"\n") + 1)
        return super().read(seconds)


@pytest.mark.parametrize(("seconds", "least"), [(0.7, 15), (3.0, 10), (0.0004, 25_000)])
def test_performance_takes_ten_seconds_and_ten_inferences(seconds, least):
    line = Measured(seconds)
    told = MlperfRunner(line, answer_seconds=60, clock=line.clock).performance()
    assert least <= told.count <= 1.2 * least + 1 and told.microseconds >= 10e6
    assert told.per_second == pytest.approx(1 / seconds, rel=1e-3)


def test_a_wrong_clock_is_told():
    line = Measured(0.5, drift=4)
    caught = failure(MlperfRunner(line, answer_seconds=60, clock=line.clock).performance)
    assert caught.code == "mlperf-clock"
    assert re.fullmatch(r"the board's clock counted [0-9.]+ s where [0-9.]+ s passed", caught.what)
    assert caught.hint == "correct reset_mhz in the chip's file, then flash again"
    still = failure(scripted(inferred(5, 5, warmup=1))[1].performance)
    assert (still.code, still.what) == ("mlperf-clock", "the board's clock did not move during 1 inferences")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build_device(tmp_path_factory.mktemp("mlperf"))


@pytest.fixture
def device(program):
    made = PtyDevice(program, milliseconds=2)
    yield made
    made.close()


def test_a_device_behind_a_pty_is_measured(device):
    runner = MlperfRunner(device.line)
    assert runner.connect() == Device("edgeprune", "ULPMark for tinyML Firmware V0.0.1", "kws01")
    data = bytes(range(BYTES))
    runner.load(data)
    told = runner.infer(5, 1)
    assert isinstance(told, Inference) and told.results == tuple(float(byte + 1) for byte in data)
    assert told.microseconds >= 10_000 and runner.results() == told.results
    measured = runner.performance(least_seconds=0.3, least_runs=10)
    assert measured.count >= 10 and measured.microseconds >= 300_000
    first, second = runner.timestamp(), runner.timestamp()
    assert 0 < (second - first) % 2**32 < 10_000_000


def test_resets_and_cut_cables_are_told(device):
    runner = MlperfRunner(device.line, answer_seconds=2)
    runner.connect()
    runner.load(bytes([0xEE, *range(BYTES - 1)]))
    assert failure(runner.infer).code == "board-reset"
    assert runner.connect().model == "kws01"
    device.cable.dead = True
    assert failure(runner.timestamp).code == "mlperf-timeout"


class Ring:
    """A memory whose board takes `pace` bytes of the line at each wait, and sends them back."""

    def __init__(self, pace):
        self.content, self.pace, self.taken = bytearray(2 * RING + 64), pace, b""

    def read(self, address, size):
        return bytes(self.content[address : address + size])

    def write(self, address, data):
        self.content[address : address + len(data)] = data

    def word(self, place, value=None):
        if value is not None:
            self.content[place : place + 4] = value.to_bytes(4, "little")
        return int.from_bytes(self.content[place : place + 4], "little")

    def wait(self, seconds):
        read, sent = 32 + RING, 36 + RING
        for _ in range(self.pace):
            if self.word(read) == self.word(0) or self.word(sent) - self.word(4) == RING:
                return
            self.content[64 + RING + self.word(sent) % RING] = self.content[32 + self.word(read) % RING]
            self.word(read, self.word(read) + 1)
            self.word(sent, self.word(sent) + 1)


@given(st.lists(st.integers(0, 1500), max_size=6), st.integers(1, 1024), st.integers(0, 2**31))
def test_a_line_in_memory_brings_all_bytes_in_order(sizes, pace, start):
    memory = Ring(pace)
    for place in (0, 4, 32 + RING, 36 + RING):
        memory.word(place, start)
    line = MemoryLine(memory, 0, "board")
    sent = got = b""
    for number, size in enumerate(sizes):
        data = bytes((number + index) % 256 for index in range(size))
        line.write(data[:RING])
        while len(got) < len(sent) + len(data[:RING]):
            got += line.read(1)
        sent += data[:RING]
    assert got == sent


def test_a_board_that_takes_nothing_is_told(monkeypatch):
    monkeypatch.setattr("edgeprune.deploy.memory_line._ROOM_SECONDS", 0.01)
    caught = failure(MemoryLine(Ring(0), 0, "board x").write, bytes(RING + 5))
    assert (caught.code, caught.what) == ("line-stuck", "the board takes no bytes: 5 are left to send")
    assert (caught.where, MemoryLine(Ring(0), 0, "b").read(0)) == ("board x", b"")
