"""What a board is and how it is doing, asked by a few lines of shell before anything is put on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeprune.board import Board
from edgeprune.deploy.transport import Transport, printable
from edgeprune.errors import EdgepruneError
from edgeprune.target import Target, cpu_flags_of

_MOST_BYTES = 1 << 16

_SCRIPT = r"""
say() { printf '%s=%s\n' "$1" "$2"; }
first() { for f in "$@"; do [ -r "$f" ] && cat "$f" 2>/dev/null && return; done; }
info=${EDGEPRUNE_CPUINFO:-/proc/cpuinfo}
cpu=/sys/devices/system/cpu/cpu0/cpufreq
say machine "$(uname -m)"
say system "$(uname -sr)"
say cores "$(grep -c '^processor' "$info" 2>/dev/null)"
say model "$(sed -n 's/^\(model name\|Model\|Hardware\)[^:]*: *//p' "$info" 2>/dev/null | head -n 1)"
say flags "$(grep '^\(flags\|Features\|isa\)' "$info" 2>/dev/null | head -n 1 | tr '\t' ' ')"
say memory "$(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo 2>/dev/null)"
folder=$1
while [ ! -d "$folder" ] && [ "$folder" != "${folder%/*}" ]; do folder=${folder%/*}; done
[ -d "$folder" ] || folder=.
say disk "$(df -Pk "$folder" 2>/dev/null | sed -n '$p' | awk '{print $4}')"
say boot "$(first /proc/sys/kernel/random/boot_id)"
say governor "$(first $cpu/scaling_governor)"
say frequency "$(first $cpu/scaling_cur_freq)"
say top_frequency "$(first $cpu/cpuinfo_max_freq)"
say temperature "$(cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null | sort -n | tail -n 1)"
say throttled "$( (vcgencmd get_throttled || cat /sys/devices/platform/soc/soc:firmware/get_throttled) 2>/dev/null)"
"""

_MACHINES = {
    "x86_64": ("x86_64", "amd64"),
    "aarch64": ("aarch64", "arm64"),
    "armv7": ("armv7l", "armv7", "armv8l", "aarch64", "arm64"),
    "riscv64": ("riscv64",),
}


@dataclass(frozen=True)
class Conditions:
    """What makes a board faster or slower just now; None where it does not say."""

    governor: str | None = None
    frequency_mhz: float | None = None
    top_frequency_mhz: float | None = None
    temperature_c: float | None = None
    throttled: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """The conditions as `bench` reports them."""
        return asdict(self)


@dataclass(frozen=True)
class BoardFacts:
    """A board as it is: `machine` as uname names it, `flags` as /proc/cpuinfo does; bytes that are free, or None."""

    machine: str
    system: str
    model: str
    cores: int | None
    flags: frozenset[str]
    memory_bytes: int | None
    disk_bytes: int | None
    boot: str
    conditions: Conditions

    def as_dict(self) -> dict[str, Any]:
        """The facts as `boards --detect` reports them."""
        plain = asdict(self) | {"flags": sorted(self.flags)}
        plain.pop("boot")
        return plain


def probe(transport: Transport, folder: str, seconds: float) -> BoardFacts:
    """Ask a connected board what it is.

    Raises EdgepruneError (board-unfit) where no shell answers, and what `Transport.run` raises.
    """
    ran = transport.run(["sh", "-c", _SCRIPT, "sh", folder], seconds)
    told = dict(line.partition("=")[::2] for line in ran.text[:_MOST_BYTES].splitlines())
    if not told.get("machine"):
        what = f"board {transport.board.name} does not say what it is: {ran.said or 'no shell answers'}"
        hint = "a board needs Linux or Android with a shell (sh) and its usual tools"
        raise EdgepruneError("board-unfit", what, where="--board", hint=hint)
    return _facts({name: printable(value.strip(), 4096) for name, value in told.items()})


def check_fit(board: Board, facts: BoardFacts, target: Target, *, where: str) -> None:
    """Refuse a board that cannot run what was compiled for `target`, named by `where`.

    Raises EdgepruneError: board-architecture, board-cpu-features.
    """
    if facts.machine not in _MACHINES.get(target.machine, (target.machine,)):
        machine = target.machine
        what = f"the package was compiled for {target.name} ({machine}), and board {board.name} is {facts.machine}"
        hint = f"compile it for this board: --target {board.target}"
        raise EdgepruneError("board-architecture", what, where=where, hint=hint)
    missing = missing_flags(facts, target)
    if missing:
        what = f"the package was compiled for {target.name}, and board {board.name} lacks {', '.join(missing)}"
        hint = "compile it for an older core, such as the generic target of this architecture"
        raise EdgepruneError("board-cpu-features", what, where=where, hint=hint)


def missing_flags(facts: BoardFacts, target: Target) -> list[str]:
    """The flags that `target` needs and the board does not have; none where the board does not say."""
    implied = {"neon", "vfpv3", "vfpv4", "vfp"} if "asimd" in facts.flags else set()
    return [flag for flag in target.cpu_flags if facts.flags and flag not in facts.flags | implied]


def check_room(board: Board, facts: BoardFacts, *, memory_bytes: int, disk_bytes: int) -> None:
    """Refuse a board with less free memory or disk than this. Raises EdgepruneError: board-memory, board-disk-full."""
    if facts.memory_bytes is not None and facts.memory_bytes < memory_bytes:
        what = f"board {board.name} has {_mib(facts.memory_bytes)} of memory free, and {_mib(memory_bytes)} are needed"
        hint = "end other programs there, use fewer threads, or compile with --ram"
        raise EdgepruneError("board-memory", what, where="--board", hint=hint)
    if facts.disk_bytes is not None and facts.disk_bytes < disk_bytes:
        what = f"board {board.name} has {_mib(facts.disk_bytes)} of disk free, and {_mib(disk_bytes)} are needed"
        hint = "free some space there, or name another place: folder in the board's file"
        raise EdgepruneError("board-disk-full", what, where="--board", hint=hint)


def _facts(told: dict[str, str]) -> BoardFacts:
    memory, disk = _number(told.get("memory")), _number(told.get("disk"))
    return BoardFacts(
        machine=told["machine"],
        system=told.get("system", ""),
        model=told.get("model", ""),
        cores=_number(told.get("cores")) or None,
        flags=cpu_flags_of(told.get("flags", "")),
        memory_bytes=None if memory is None else 1024 * memory,
        disk_bytes=None if disk is None else 1024 * disk,
        boot=told.get("boot", ""),
        conditions=_conditions(told),
    )


def _conditions(told: dict[str, str]) -> Conditions:
    frequency, top = _number(told.get("frequency")), _number(told.get("top_frequency"))
    temperature = _number(told.get("temperature"))
    throttled = told.get("throttled", "").removeprefix("throttled=")
    return Conditions(
        governor=told.get("governor") or None,
        frequency_mhz=None if frequency is None else frequency / 1000,
        top_frequency_mhz=None if top is None else top / 1000,
        temperature_c=None if temperature is None else temperature / 1000,
        throttled=_throttled(throttled),
    )


def _throttled(text: str) -> bool | None:
    """The Raspberry Pi's word: low four bits say what holds now (under-voltage, capped, throttled, warm)."""
    try:
        return bool(int(text, 16) & 0xF)
    except ValueError:
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
