"""What Linux says of a processor under /proc and /sys: programs choose their kernels by it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import EdgepruneError
from edgeprune.target import Target

_ARM = 0x41


@dataclass(frozen=True)
class Processor:
    """A core: what qemu calls it, and its variant, part and revision as Arm numbers them."""

    model: str
    variant: int
    part: int
    revision: int

    @property
    def midr(self) -> int:
        """The main identification register."""
        return _ARM << 24 | self.variant << 20 | 0xF << 16 | self.part << 4 | self.revision


_BY_CPU = {
    "generic": Processor("cortex-a53", 0, 0xD03, 4),
    "cortex-a53": Processor("cortex-a53", 0, 0xD03, 4),
    "cortex-a55": Processor("cortex-a76", 1, 0xD05, 0),
    "cortex-a57": Processor("cortex-a57", 1, 0xD07, 1),
    "cortex-a72": Processor("cortex-a72", 0, 0xD08, 3),
    "cortex-a76": Processor("cortex-a76", 4, 0xD0B, 1),
    "cortex-a78ae": Processor("neoverse-n1", 0, 0xD42, 1),
}


def processor_of(target: Target) -> Processor:
    """The processor that stands for `target`. Raises EdgepruneError (emulator-unsupported) where there is none."""
    if target.machine != "aarch64" or target.cpu not in _BY_CPU:
        known = ", ".join(sorted(_BY_CPU))
        raise EdgepruneError(
            "emulator-unsupported",
            f"target {target.name} ({target.triple}, {target.cpu}) cannot be emulated",
            where="--board",
            hint=f"64-bit Arm with one of {known} can",
        )
    return _BY_CPU[target.cpu]


def write_tree(folder: Path, target: Target) -> None:
    """Write /proc/cpuinfo and /sys/devices/system/cpu of a machine with `target`'s cores under `folder`."""
    processor, cores = processor_of(target), max(target.cores, 1)
    files = {"proc/cpuinfo": cpuinfo(target), **_shared(cores)}
    for core in range(cores):
        files.update(_core_files(processor, core, cores, round(target.clock_mhz * 1000)))
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")


def cpuinfo(target: Target) -> str:
    """The /proc/cpuinfo of a machine with `target`'s cores."""
    processor = processor_of(target)
    extensions = ["fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", *target.cpu_flags]
    facts = {
        "BogoMIPS": "108.00",
        "Features": " ".join(dict.fromkeys((*extensions, "cpuid"))),
        "CPU implementer": f"0x{_ARM:02x}",
        "CPU architecture": "8",
        "CPU variant": f"0x{processor.variant:x}",
        "CPU part": f"0x{processor.part:03x}",
        "CPU revision": str(processor.revision),
    }
    lines = "\n".join(f"{name}\t: {value}" for name, value in facts.items())
    blocks = [f"processor\t: {core}\n{lines}\n" for core in range(max(target.cores, 1))]
    return "\n".join([*blocks, f"Model\t\t: emulated, as {target.name}\n"])


def _shared(cores: int) -> dict[str, str]:
    listed = f"0-{cores - 1}\n" if cores > 1 else "0\n"
    return {f"sys/devices/system/cpu/{name}": listed for name in ("possible", "present", "online")}


def _core_files(processor: Processor, core: int, cores: int, khz: int) -> dict[str, str]:
    everyone = f"{(1 << cores) - 1:x}"
    facts = {
        "cpu_capacity": "1024",
        "regs/identification/midr_el1": f"0x{processor.midr:016x}",
        "cpufreq/cpuinfo_min_freq": "600000",
        "cpufreq/cpuinfo_max_freq": str(khz),
        "cpufreq/scaling_cur_freq": str(khz),
        "cpufreq/scaling_governor": "performance",
        "topology/physical_package_id": "0",
        "topology/cluster_id": "0",
        "topology/core_id": str(core),
        "topology/core_siblings": everyone,
        "topology/core_siblings_list": f"0-{cores - 1}" if cores > 1 else "0",
        "topology/thread_siblings": f"{1 << core:x}",
        "topology/thread_siblings_list": str(core),
    }
    return {f"sys/devices/system/cpu/cpu{core}/{name}": f"{value}\n" for name, value in facts.items()}
