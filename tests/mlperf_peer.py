"""Devices for a runner of MLPerf Tiny: the firmware's own code behind a pty, transcripts, and scripts."""

from __future__ import annotations

import re
import subprocess
from importlib import resources
from pathlib import Path

from noisy_line import NoisyLine

import edgeprune.firmware
from edgeprune.device.port import Line
from edgeprune.target import load_target
from edgeprune.toolchain import compile_c

BYTES = 64
FIRMWARE = Path(edgeprune.firmware.__file__).parent


def build_device(folder: Path, benchmark: str = "kws01", flip: int = 0) -> Path:
    """The firmware's code for this machine, trapped where it does what C leaves undefined."""
    runtime = str(resources.files("edgeprune.kernels.static_runtime"))
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined", "-fsanitize-trap=undefined"]
    flags += ["-I", str(FIRMWARE), "-I", runtime, f'-DEDGE_MLPERF_MODEL="{benchmark}"']
    flags += [f"-DEDGE_MLPERF_BYTES={BYTES}", f"-DEDGE_MLPERF_FLIP={flip}"]
    sources = [str(FIRMWARE / "mlperf_tiny.c"), str(Path(__file__).with_name("mlperf_host.c"))]
    path = folder / f"device-{benchmark}-{flip}"
    compile_c(load_target("host"), [*flags, *sources, "-o", path.name], folder)
    return path


class PtyDevice:
    """`program` at the far end of a cable; `line` is the near one, open before it says its first word."""

    def __init__(self, program, dtype="int8", size=1, scale=0.0, zero=0, milliseconds=0):
        self.cable = NoisyLine()
        self.line = Line(self.cable.host, 115200)
        arguments = [self.cable.board, dtype, size, scale, zero, milliseconds]
        self.process = subprocess.Popen([program, *(str(argument) for argument in arguments)])

    def close(self):
        self.process.kill()
        self.process.wait()
        self.line.close()
        self.cable.cut()


class ScriptedLine:
    """Answers each command with the next of `answers`, in parts of `step` bytes; time goes by where nothing comes."""

    def __init__(self, answers, step=7):
        self.device, self.answers, self.step = "script", list(answers), step
        self.now, self.left, self.commands, self._half = 0.0, b"", [], ""

    def clock(self):
        return self.now

    def write(self, data):
        *whole, self._half = (self._half + data.decode()).split("%")
        for command in whole:
            self.commands.append(command)
            if self.answers:
                self.left += self.answers.pop(0)

    def read(self, seconds):
        part, self.left = self.left[: self.step], self.left[self.step :]
        self.now += 0.001 if part else seconds
        return part


def said_in(log: Path) -> list[tuple[str, list[str]]]:
    """The commands that a transcript shows, `bload` among them, each with the lines that the device answered."""
    told: list[tuple[str, list[str]]] = []
    for line in log.read_text().splitlines():
        _, who, what = re.fullmatch(r"([0-9.]+) ([a-z]+): (.*)", line).groups()
        command = re.fullmatch(r'Command "(?:dut )?(.*)"', what)
        if who == "parser" and command and not what.startswith(('Command "version', 'Command "bm')):
            told.append((command[1], []))
        elif who == "dut":
            told[-1][1].append(what)
    return told
