from __future__ import annotations

from pathlib import Path

import pytest
from small_plan import exp_add, multiply

from edgeprune.lowering.compile import compile_module, compile_object
from edgeprune.target import load_target


@pytest.mark.parametrize(("name", "registers"), [("x86-64-v2", "%xmm"), ("x86-64-v3", "%ymm"), ("x86-64-v4", "%ymm")])
def test_functions_become_plain_symbols_of_the_target(name: str, registers: str) -> None:
    assembly = compile_module({"first": multiply, "second": multiply}, load_target(name)).inspect_source("asm")
    assert "first:" in assembly
    assert "second:" in assembly
    assert registers in assembly
    assert "TVMFFI" not in assembly
    assert "__tvm" not in assembly


def test_an_older_target_gets_no_newer_instruction() -> None:
    assembly = compile_module({"f": multiply}, load_target("x86-64-v2")).inspect_source("asm")
    assert "%ymm" not in assembly
    assert "vmul" not in assembly


def test_objects_are_the_same_each_time(tmp_path: Path) -> None:
    for file in ("a.o", "b.o"):
        compile_object({"exp_add": exp_add, "multiply": multiply}, load_target("x86-64-v3"), tmp_path / file)
    assert (tmp_path / "a.o").read_bytes() == (tmp_path / "b.o").read_bytes()
    assert (tmp_path / "a.o").read_bytes()[:4] == b"\x7fELF"
