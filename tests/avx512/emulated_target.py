"""Tests as if this machine were another: kernels and models are compiled for it and run in the emulator.

As a plugin it does so for whole test files that were written for the machine that is there:

    EDGEPRUNE_EMULATED=x86-64-v4 PYTHONPATH=tests/avx512:tests/kernels python -m pytest -p emulated_target tests/kernels
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import emulation
import harness
import integer_case
import processors
import pytest

from edgeprune.deploy import local
from edgeprune.deploy.interface import declare
from edgeprune.lowering.compile import compile_object
from edgeprune.lowering.program import machine_of
from edgeprune.target import Target, load_target


def library(functions: Mapping[str, object]) -> ctypes.CDLL:
    """As harness.library, in the emulator."""
    with tempfile.TemporaryDirectory() as folder:
        compiled, shared = Path(folder, "kernel.o"), Path(folder, "kernel.so")
        compile_object(functions, harness.target(), compiled)
        linker = [sys.executable, "-m", "ziglang", "cc", "-shared", "-nostdlib", "-target", "x86_64-linux-gnu.2.34"]
        subprocess.run([*linker, str(compiled), "-o", str(shared)], check=True)
        return emulation.load(shared.read_bytes())


def become(target: Target, patch: pytest.MonkeyPatch) -> None:
    """Compile and run everything for `target` as long as `patch` holds."""
    processor = next(p for p in processors.PROCESSORS.values() if p.target == target.name)
    emulation.become(processor)
    patch.setattr(harness, "target", lambda: target)
    patch.setattr(harness, "library", library)
    patch.setattr(harness.Compiled, "_libraries", {})
    patch.setattr(local, "host_cpu_flags", lambda: processor.flags)
    patch.setattr(local, "_load", lambda path: declare(emulation.load(Path(path).read_bytes())))


def pytest_configure(config: pytest.Config) -> None:
    """Where this module is a plugin: for the whole session, integer kernels of this machine included."""
    if name := os.environ.get("EDGEPRUNE_EMULATED"):
        target = load_target(name)
        become(target, pytest.MonkeyPatch())
        for own, dot in {"sse": "pairs", "avx2": "pairs", "bytes": target.dot, "bytes4": target.dot}.items():
            integer_case.MACHINES[own] = replace(machine_of(target), dot=dot)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much was emulated."""
    terminalreporter.write_line(f"{emulation.executed()} vector instructions in the emulator")
