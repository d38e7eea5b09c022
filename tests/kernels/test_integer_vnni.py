"""The integer convolution on byte dot products: its code, and its results where this machine has the instruction."""

from __future__ import annotations

import re

import pytest
from integer_case import STORED, make, storage_of

from edgeprune.kernels.abi import Activation, Machine
from edgeprune.lowering.compile import compile_module
from edgeprune.target import Target, host_cpu_flags, load_target

NAMES = ["x86-64-v3-vnni", "x86-64-v4-vnni"]


def machine_of(target: Target) -> Machine:
    return Machine(target.lanes, target.vector_registers, target.l1_bytes, target.l2_bytes, target.dot)


def inner_loop(text: str) -> list[str]:
    """The instructions between the labels around the longest run of dot products."""
    pieces = re.split(r"^\.LBB\d+_\d+:$", text, flags=re.MULTILINE)
    longest = max(pieces, key=lambda piece: piece.count("vpdpbusd"))
    lines = [line.strip() for line in longest.splitlines() if line.startswith("\t") and not line.startswith("\t.")]
    last = next(i for i, line in enumerate(lines) if line.startswith("j"))
    return lines[: last + 1]


@pytest.mark.parametrize(("name", "register"), list(zip(NAMES, ("%ymm", "%zmm"), strict=True)))
def test_a_vector_takes_one_instruction(name, register):
    target = load_target(name)
    machine = machine_of(target)
    case = make(machine=machine, inputs=64, outputs=64, height=28, width=28, stored=storage_of(machine))
    kernel = case.build(machine)
    loop = inner_loop(compile_module({"kernel": kernel.func}, target).inspect_source("asm"))
    width, tile = (int(part) for part in re.findall(r"(\d+)x1x(\d+)", kernel.label)[0])
    products = [line for line in loop if line.startswith(("vpdpbusd", "{vex}\tvpdpbusd"))]
    assert len(products) == width // target.lanes * tile
    assert all(register in line for line in products)
    assert sum("vpbroadcastd" in line for line in loop) == tile
    assert not any("mm" in line and "(%rsp)" in line for line in loop), "sums or weights leave their registers"
    assert len(loop) <= len(products) + tile + width // target.lanes + 8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_results_where_the_machine_has_it(name, density, monkeypatch):
    target = load_target(name)
    if not host_cpu_flags().issuperset(target.cpu_flags):
        pytest.skip(f"this machine is no {name}")
    monkeypatch.setattr("harness.target", lambda: target)
    machine = machine_of(target)
    case = make(machine=machine, inputs=37, outputs=45, steps=(STORED[2], Activation("Relu")), density=density)
    case.check(case.build(machine))


@pytest.mark.parametrize(("name", "register"), list(zip(NAMES, ("%ymm", "%zmm"), strict=True)))
def test_lanes_take_a_shuffle_before_it(name, register):
    target = load_target(name)
    case = make(machine=machine_of(target), inputs=64, outputs=64, height=28, width=28, density=0.1)
    kernel = case.build(machine_of(target))
    assert "lanes" in kernel.label
    loop = inner_loop(compile_module({"kernel": kernel.func}, target).inspect_source("asm"))
    counts = [sum(word in line and register in line for line in loop) for word in ("vpdpbusd", "vpshufb")]
    assert counts[0] == counts[1] > 4
