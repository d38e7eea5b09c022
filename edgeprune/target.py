"""Facts about a target, read from targets/NAME.toml."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from edgeprune.errors import EdgepruneError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HALF_FLAGS = ("fphp", "asimdhp")
"""How /proc/cpuinfo of 64-bit Arm names arithmetic of half precision."""

_HOSTS = (
    "x86-64-v4-vnni",
    "x86-64-v4",
    "x86-64-v3-vnni",
    "x86-64-v3",
    "x86-64-v2",
    "aarch64-generic",
    "riscv64-generic",
)


class EnergyFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What work costs on one machine: picojoules of a multiply-accumulate and of a byte moved, watts of being on.

    A multiply-accumulate counts with its share of an instruction on a full vector. `l2_byte_pj` is a byte from or to
    the second-level cache, `memory_byte_pj` one beyond it; `static_watts` is what one core and its share of the chip
    take whatever they do. `source` says where the figures come from: they are estimates, good for comparisons.
    """

    fp32_mac_pj: float
    int8_mac_pj: float
    l2_byte_pj: float
    memory_byte_pj: float
    static_watts: float
    source: str


class PredictFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How counted instructions become time: cycles by llvm-mca's `model` of a core, times `factor`.

    `factor` is what hardware took of what was predicted, within a factor `spread` over networks measured on real
    boards; `dispatch` is the width that it holds for, 0 for the model's own.
    """

    model: str
    factor: float
    spread: float
    dispatch: int = 0


class InstructionFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an instruction of one core or chip takes on average: cycles, and nanojoules of the whole chip.

    Real inferences were within a factor `cycles_spread` and `energy_spread` of that. `source` says where it is from.
    """

    cycles: float
    cycles_spread: float
    nanojoules: float
    energy_spread: float
    source: str


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the compiler must know of one machine; sizes in bytes.

    `cpu` and `features` are LLVM's names. `cpu_flags` are the features, as /proc/cpuinfo names them, that a machine
    must have to run the package. `vector_bytes` and `vector_registers` describe the widest SIMD registers.
    `patterns` are those its kernels turn into time, finest first. `clock_mhz` is that of a typical machine: predicted
    cycles become time by it. `dot` names the integer product that its kernels use. Where `arithmetic` is "fixed",
    int8 layers are rescaled in integers as TFLite defines it, by "float" as ONNX does. Memory as fast as a cache
    counts as one. `half` says that its vectors compute in float16 as well as in float32, twice as many at once; `real`
    is what layers of real numbers compute in. `cores` and `memory_bytes` are what the smallest such machine has, 0
    where unknown.
    """

    name: str
    description: str
    triple: str
    cpu: str
    cpu_flags: tuple[str, ...]
    vector_bytes: int
    vector_registers: int
    l1_bytes: int
    l2_bytes: int
    patterns: tuple[str, ...]
    clock_mhz: float = 3000.0
    features: tuple[str, ...] = ()
    cores: int = 0
    memory_bytes: int = 0
    dot: str = "generic"
    arithmetic: Literal["float", "fixed"] = "float"
    half: bool = False
    real: Literal["float32", "float16"] = "float32"
    patterns_int8: tuple[str, ...] = ()
    energy: EnergyFacts | None = None
    predict: PredictFacts | None = None
    per_instruction: InstructionFacts | None = None

    @property
    def lanes(self) -> int:
        """float32 values in one vector register."""
        return self.vector_bytes // 4

    def for_precision(self, precision: str) -> Target:
        """The same target as it computes in `precision`, with the patterns that pay there: fp32, fp16 or int8."""
        if precision == "fp16":
            flags = tuple(dict.fromkeys((*self.cpu_flags, *_HALF_FLAGS)))
            return msgspec.structs.replace(self, real="float16", cpu_flags=flags)
        if precision != "int8" or not self.patterns_int8:
            return self
        return msgspec.structs.replace(self, patterns=self.patterns_int8)

    @property
    def bare(self) -> bool:
        """Whether there is no operating system: a microcontroller, where a model is a static library."""
        return "none" in self.triple.split("-")

    @property
    def machine(self) -> str:
        """The processor's architecture, the first word of the triple: x86_64, aarch64, armv7, riscv64."""
        return self.triple.split("-")[0]


@cache
def _facts(name: str) -> Target:
    text = (resources.files("edgeprune.targets") / f"{name}.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Target)


def target_names() -> list[str]:
    """Every name that `load_target` takes."""
    found = [
        Path(entry.name).stem
        for entry in resources.files("edgeprune.targets").iterdir()
        if entry.name.endswith(".toml")
    ]
    return sorted([*found, "host"])


def load_target(name: str) -> Target:
    """The facts of target `name`; `host` is the best general one that this machine runs.

    Raises EdgepruneError (target-unknown, usage) with the nearest names.
    """
    if name == "host":
        return detect_host()
    if name not in target_names():
        raise EdgepruneError(
            "target-unknown",
            f"there is no target '{name}'",
            where="--target",
            hint=nearest(name, target_names()),
            exit_code=2,
        )
    return _facts(name)


def host_cpu_flags() -> frozenset[str]:
    """The CPU features of this machine as Linux names them; empty where /proc/cpuinfo cannot be read."""
    try:
        return cpu_flags_of(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace"))
    except OSError:
        return frozenset()


def cpu_flags_of(cpuinfo: str) -> frozenset[str]:
    """The features that a /proc/cpuinfo lists: x86 calls them flags, Arm Features; RISC-V writes letters in `isa`."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
        if name.strip() == "isa":
            letters, *extensions = value.strip().split("_")
            return frozenset((*letters.removeprefix("rv32").removeprefix("rv64"), *extensions))
    return frozenset()


def detect_host() -> Target:
    """The first of the general targets, best first, whose features this machine has.

    Raises EdgepruneError (host-unsupported) on other machines.
    """
    flags = host_cpu_flags()
    for name in _HOSTS:
        facts = _facts(name)
        if flags.issuperset(facts.cpu_flags):
            return facts
    raise EdgepruneError(
        "host-unsupported",
        f"no target describes this machine ({platform.machine()})",
        where="--target host",
        hint="name a target; `edgeprune targets` lists them",
    )
