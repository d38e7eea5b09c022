from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeprune.board import Board
from edgeprune.deploy.facts import BoardFacts, Conditions, check_fit, check_room, missing_flags, probe
from edgeprune.deploy.transport import Ran
from edgeprune.deploy.transport_local import LocalTransport
from edgeprune.errors import EdgepruneError
from edgeprune.target import host_cpu_flags, load_target

BOARD = Board(name="shelf", target="raspberry-pi-4", transport="local")
FACTS = BoardFacts("aarch64", "Linux 6", "Pi", 4, frozenset({"fp", "asimd"}), 1 << 30, 1 << 30, "", Conditions())


class Says:
    """A board whose shell says `text`."""

    board = BOARD

    def __init__(self, text: bytes, code: int = 0, stderr: bytes = b"") -> None:
        self.ran = Ran(code, text, stderr)

    def run(self, argv, seconds, stdin=b""):
        return self.ran


def error(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.hint
    return caught.value


def test_this_machine_says_what_it_is(tmp_path):
    facts = probe(LocalTransport(BOARD, home=tmp_path), "not/there/yet", 20.0)
    assert facts.flags == host_cpu_flags()
    assert facts.cores >= 1
    assert facts.memory_bytes > 1 << 20
    assert facts.disk_bytes > 1 << 20
    assert facts.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts.as_dict()["flags"] == sorted(facts.flags)
    assert list(tmp_path.iterdir()) == []


def test_a_raspberry_pi_says_what_it_is():
    text = b"""machine=aarch64
system=Linux 6.6.31
cores=4
model=Raspberry Pi 4 Model B Rev 1.4
flags=Features : fp asimd evtstrm crc32 cpuid
memory=3500000
disk=20000000
boot=abc
governor=ondemand
frequency=600000
top_frequency=1800000
temperature=48312
throttled=throttled=0x50004
"""
    facts = probe(Says(text), "x", 1.0)
    assert (facts.machine, facts.cores, facts.memory_bytes, facts.disk_bytes) == (
        *("aarch64", 4),
        *(3500000 * 1024, 20000000 * 1024),
    )
    assert facts.flags == {"fp", "asimd", "evtstrm", "crc32", "cpuid"}
    assert facts.conditions == Conditions("ondemand", 600.0, 1800.0, 48.312, True)


def test_a_board_that_says_little_or_nonsense():
    facts = probe(
        Says(b"machine=armv7l\nmemory=-5\ndisk=\xff\ntemperature=hot\x1b[2J\nthrottled=\ncores=x\n"), "x", 1.0
    )
    assert (facts.memory_bytes, facts.disk_bytes, facts.cores) == (None, None, None)
    assert facts.conditions == Conditions()
    caught = error(lambda: probe(Says(b"", 127, b"sh: not \x1b[31mfound\n"), "x", 1.0))
    assert caught.code == "board-unfit"
    assert caught.what == "board shelf does not say what it is: sh: not ?[31mfound"


def test_what_a_pi_remembers_of_the_past_is_not_now():
    assert probe(Says(b"machine=x\nthrottled=throttled=0x50000\n"), "x", 1.0).conditions.throttled is False


@pytest.mark.parametrize("machine", ["x86_64", "armv7l", "riscv64"])
def test_another_architecture(machine):
    facts = BoardFacts(**{**vars(FACTS), "machine": machine})
    caught = error(lambda: check_fit(BOARD, facts, load_target("raspberry-pi-4"), where="model.edge"))
    assert (caught.code, caught.where) == ("board-architecture", "model.edge")
    assert caught.what == f"the package was compiled for raspberry-pi-4 (aarch64), and board shelf is {machine}"
    assert caught.hint == "compile it for this board: --target raspberry-pi-4"


def test_missing_features():
    check_fit(BOARD, FACTS, load_target("raspberry-pi-4"), where="")
    caught = error(lambda: check_fit(BOARD, FACTS, load_target("raspberry-pi-5"), where="model.edge"))
    assert caught.code == "board-cpu-features"
    assert caught.what.startswith("the package was compiled for raspberry-pi-5, and board shelf lacks ")
    assert "asimddp" in caught.what
    silent = BoardFacts(**{**vars(FACTS), "flags": frozenset()})
    assert missing_flags(silent, load_target("raspberry-pi-5")) == []


def test_a_32_bit_package_on_a_64_bit_kernel():
    target = load_target("beaglebone-black")
    check_fit(BOARD, FACTS, target, where="")
    assert missing_flags(FACTS, msgspec.structs.replace(target, cpu_flags=("neon", "other"))) == ["other"]


def test_too_little_room():
    check_room(BOARD, FACTS, memory_bytes=1 << 30, disk_bytes=1 << 30)
    caught = error(lambda: check_room(BOARD, FACTS, memory_bytes=3 << 29, disk_bytes=0))
    assert caught.code == "board-memory"
    assert caught.what == "board shelf has 1024.0 MiB of memory free, and 1536.0 MiB are needed"
    caught = error(lambda: check_room(BOARD, FACTS, memory_bytes=0, disk_bytes=3 << 29))
    assert caught.code == "board-disk-full"
    assert caught.what == "board shelf has 1024.0 MiB of disk free, and 1536.0 MiB are needed"
    unknown = BoardFacts(**{**vars(FACTS), "memory_bytes": None, "disk_bytes": None})
    check_room(BOARD, unknown, memory_bytes=1 << 60, disk_bytes=1 << 60)
