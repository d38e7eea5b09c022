"""Which target a processor with AVX-512 or VNNI gets, and that compiled models see the same."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import emulation
import pytest
from processors import PROCESSORS, Processor

from edgeprune import target
from edgeprune.lowering.link import runtime_files
from edgeprune.target import detect_host, load_target, target_names
from edgeprune.toolchain import baseline, compile_c

_EXPORTED = """
#include "program.h"
__attribute__((visibility("default"))) int has(const char *flag) { return edge_cpu_has(flag); }
"""
NAMES = [name for name in target_names() if name.startswith("x86-64")]


@pytest.fixture(scope="module")
def has(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """edge_cpu_has of the runtime, whose cpuid the emulator answers."""
    folder = tmp_path_factory.mktemp("runtime")
    for file, text in runtime_files().items():
        (folder / file).write_text(text, encoding="utf-8")
    (folder / "has.c").write_text(_EXPORTED, encoding="utf-8")
    facts = load_target("x86-64-v4-vnni")
    compile_c(facts, ["-O2", "-fPIC", "-shared", baseline(facts), "cpu.c", "has.c", "-o", "cpu.so"], folder)
    return emulation.load((folder / "cpu.so").read_bytes())


def fits(has: ctypes.CDLL, processor: Processor) -> set[str]:
    """The targets whose features the runtime finds."""
    emulation.become(processor)
    return {name for name in NAMES if all(has.has(flag.encode()) for flag in load_target(name).cpu_flags)}


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=PROCESSORS)
def test_the_host_is_the_best_target(processor, monkeypatch):
    monkeypatch.setattr(target, "host_cpu_flags", lambda: processor.flags)
    assert detect_host().name == processor.target


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=PROCESSORS)
def test_the_runtime_sees_what_linux_lists(has, processor):
    expected = {name for name in NAMES if processor.flags.issuperset(load_target(name).cpu_flags)}
    assert fits(has, processor) == expected
    assert processor.target in expected


@pytest.mark.parametrize("saved", [0x07, 0x03, 0x67])
def test_registers_that_the_system_does_not_save_do_not_count(has, saved):
    found = fits(has, replace(PROCESSORS["Ice Lake-SP"], saved_state=saved))
    assert found == ({"x86-64-v2", "x86-64-v3"} if saved & 4 else {"x86-64-v2"})
