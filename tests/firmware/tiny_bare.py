"""A hand-written static library with the interface of models for microcontrollers, and what it computes in numpy."""

from __future__ import annotations

import tempfile
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from edgeprune.chip import Chip, load_chip
from edgeprune.firmware.link import Firmware, link_firmware
from edgeprune.target import Target, load_target
from edgeprune.toolchain import baseline, compile_c, run_zig

SOURCE = Path(__file__).with_name("tiny_bare.c").read_text()
SOURCE_WITHOUT_FLOATS = SOURCE.replace("*sum = (float)total * 0.5f;", "*(int32_t *)sum = total;").replace(
    "float32", "int32"
)
ARENA_BYTES, STEPS = 64, ("clear", "add", "weigh")
WEIGHTS = np.array([3, -5, 7, 11, -13, 17, 19, 23])


def core(name: str) -> Target:
    """The facts of a microcontroller's core."""
    return load_target(name)


def header() -> str:
    return (resources.files("edgeprune.kernels.static_runtime") / "edge_model.h").read_text()


@cache
def tiny_library(name: str = "cortex-m4", source: str | None = None) -> bytes:
    target = core(name)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "edge_model.h").write_text(header())
        (folder / "model.c").write_text(source or SOURCE)
        flags = ["-Os", "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-fno-sanitize=all", "-g0"]
        compile_c(target, [baseline(target), *flags, "-c", "model.c", "-o", "model.o"], folder)
        run_zig(["ar", "rcsD", "libmodel.a", "model.o"], folder)
        return (folder / "libmodel.a").read_bytes()


@cache
def tiny_firmware(chip: str = "emulated-m4", source: str | None = None) -> Firmware:
    return link(load_chip(chip), source)


def link(chip: Chip, source: str | None = None, **options: object) -> Firmware:
    library = tiny_library(chip.target, source)
    wanted = {"arena_bytes": ARENA_BYTES, "steps": STEPS, **options}
    return link_firmware(library, header(), chip, core(chip.target), digest=bytes(range(8)), **wanted)


def tiny_inputs(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.normal(0, 20, (rows, 1, 8)).astype(np.float32) for name in ("first", "second")}


def tiny_outputs(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the library gives for real-valued rows."""
    first = np.clip(np.rint(inputs["first"] / np.float32(0.5)) + 3, -128, 127).astype(int)
    second = np.clip(np.rint(inputs["second"] / np.float32(0.25)) - 1, -128, 127).astype(int)
    scaled = np.clip(first + second, -128, 127)
    total = (first * WEIGHTS).sum(-1, keepdims=True) + 1000
    return {"scaled": ((scaled - 5) * 0.125).astype(np.float32), "sum": (total * 0.5).astype(np.float32)}
