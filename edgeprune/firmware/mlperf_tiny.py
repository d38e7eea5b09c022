"""Firmware that EEMBC's runner of MLPerf Tiny talks to: what it is told of the model in it."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.bare_model import BareModel, BareTensor
from edgeprune.chip import Chip
from edgeprune.errors import EdgepruneError

SOURCES = ("mlperf_tiny.c", "mlperf_board.c")
PIXELS = 0x80
"""Pixels from 0 to 255, as the runner sends them, differ from those from -128 to 127 in this bit."""

_BENCHMARKS = {
    ("int8", (49, 10), 12): ("kws01", 0),
    ("int8", (32, 32, 3), 10): ("ic01", PIXELS),
    ("int8", (96, 96, 3), 2): ("vww01", PIXELS),
    ("float32", (640,), 640): ("ad01", 0),
}
"""Dtype and shape of the input, values of the output: the benchmark's name and by which bits its data sets differ."""


@dataclass(frozen=True)
class MlperfTiny:
    """A benchmark by its name; `input_bytes` come for one inference, each differing from what is stored by `flip`."""

    name: str
    input_bytes: int
    flip: int = 0

    def defines(self) -> list[str]:
        """What the compiler is told."""
        return [
            f'-DEDGE_MLPERF_MODEL="{self.name}"',
            f"-DEDGE_MLPERF_BYTES={self.input_bytes}",
            f"-DEDGE_MLPERF_FLIP={self.flip}",
        ]


def mlperf_tiny_of(model: BareModel) -> MlperfTiny:
    """The benchmark that `model` looks like; else one named after the model and fed as it stores its input."""
    size = sum(tensor.size for tensor in model.inputs)
    first, values = model.inputs[0], _values(model.outputs[0])
    shape = tuple(length for length in first.shape if length != 1)
    name, flip = _BENCHMARKS.get((first.dtype, shape, values), (_plain(model.name), 0))
    return MlperfTiny(name, size, flip)


def check_clock(chip: Chip) -> None:
    """Raises EdgepruneError (firmware-clock) where nothing on `chip` tells the time."""
    if chip.reset_mhz or chip.boot == "esp32":
        return
    what = f"the clock of chip {chip.name} after reset is not known, and MLPerf Tiny wants times"
    hint = "give reset_mhz in the chip's file; plain `bench` measures with this machine's clock"
    raise EdgepruneError("firmware-clock", what, where=f"chip {chip.name}", hint=hint)


def _values(tensor: BareTensor) -> int:
    count = 1
    for length in tensor.shape:
        count *= length
    return count


def _plain(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:32] or "model"
