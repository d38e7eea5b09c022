"""Facts about a target, read from targets/NAME.toml."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec

from edgeprune.errors import EdgepruneError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the compiler must know of one machine; sizes in bytes.

    `cpu_flags` are the /proc/cpuinfo flags that a machine must have to run the package. `vector_bytes` and
    `vector_registers` describe the widest SIMD registers. `patterns` are those its kernels turn into time,
    finest first. `clock_mhz` is that of a typical machine: predicted cycles become time by it.
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
    energy: EnergyFacts | None = None

    @property
    def lanes(self) -> int:
        """float32 values in one vector register."""
        return self.vector_bytes // 4


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
    """The facts of target `name`; `host` is the best x86-64 level this machine runs.

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
    """The CPU flags of this machine as Linux names them; empty where /proc/cpuinfo cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def detect_host() -> Target:
    """The widest x86-64 level whose flags this machine has.

    Raises EdgepruneError (host-unsupported) on other machines.
    """
    flags = host_cpu_flags()
    for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2"):
        facts = _facts(name)
        if flags.issuperset(facts.cpu_flags):
            return facts
    raise EdgepruneError(
        "host-unsupported",
        f"no target describes this machine ({platform.machine()})",
        where="--target host",
        hint="name a target; `edgeprune targets` lists them",
    )
