"""The archive of a model without an operating system: what is in it, what it needs, how large it says it is."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from elftools.elf.elffile import ELFFile
from lowered import canonical, graph_model
from onnx import helper
from qdq_networks import NETWORKS

from edgeprune.chip import load_chip
from edgeprune.errors import EdgepruneError
from edgeprune.firmware.link import link_firmware
from edgeprune.lowering.lower import lower
from edgeprune.lowering.static_library import StaticLibrary, build_static
from edgeprune.target import load_target

AEABI = "__aeabi_"
ALLOWED = {"memcpy", "memset", "memmove"}


def built(model: onnx.ModelProto, name: str) -> StaticLibrary:
    target = load_target(name)
    return build_static(lower(canonical(model), target), target, "small")


def members(archive: bytes) -> dict[str, ELFFile]:
    """The object files of an archive, by a number."""
    found, place = {}, 8
    assert archive[:place] == b"!<arch>\n"
    while place < len(archive):
        size = int(archive[place + 48 : place + 58])
        content = archive[place + 60 : place + 60 + size]
        if content[:4] == b"\x7fELF":
            found[str(place)] = ELFFile(io.BytesIO(content))
        place += 60 + size + size % 2
    return found


def defined(member: ELFFile) -> set[str]:
    symbols = member.get_section_by_name(".symtab").iter_symbols()
    return {symbol.name for symbol in symbols if symbol["st_shndx"] != "SHN_UNDEF" and symbol.name}


def wanted(archive: bytes) -> set[str]:
    """The symbols that the archive uses and does not define."""
    used, made = set(), set()
    for member in members(archive).values():
        for symbol in member.get_section_by_name(".symtab").iter_symbols():
            (used if symbol["st_shndx"] == "SHN_UNDEF" else made).add(symbol.name)
    return used - made - {""}


def exponentials() -> onnx.ModelProto:
    nodes = [
        helper.make_node(op, [f"v{index}"], [f"v{index + 1}"], op)
        for index, op in enumerate(("Sin", "Exp", "Round", "Cos"))
    ]
    return graph_model(nodes, {"v0": [1, 6]}, ["v4"], {})


@pytest.mark.parametrize(("name", "target"), [("exponentials", "cortex-m0plus"), ("ports", "riscv32imc")])
def test_nothing_but_memory_functions_and_the_compilers_own_is_wanted(name: str, target: str) -> None:
    model = exponentials() if name == "exponentials" else NETWORKS[name](seed=1)
    for symbol in wanted(built(model, target).archive) - ALLOWED:
        assert symbol.startswith(AEABI if target == "cortex-m0plus" else "__")


def test_sizes_are_those_of_what_is_stored() -> None:
    library = built(NETWORKS["dense"](seed=1), "cortex-m4")
    code = constants = 0
    for member in members(library.archive).values():
        if "edge_step_names" in defined(member):
            continue
        for section in member.iter_sections():
            if not section["sh_flags"] & 2 or section["sh_type"] != "SHT_PROGBITS":
                continue
            if section.name == ".rodata.edge_constants":
                constants += section["sh_size"]
            elif not section.name.startswith(".text.tvm"):
                code += section["sh_size"]
    assert (library.weights_bytes, library.code_bytes) == (constants, code)


def test_names_of_steps_are_there_for_who_asks_and_no_part_of_a_program_that_does_not() -> None:
    library = built(NETWORKS["dense"](seed=1), "cortex-m4")
    holding = [member for member in members(library.archive).values() if "edge_step_names" in defined(member)]
    assert len(holding) == 1 and defined(holding[0]).isdisjoint({"edge_run", "edge_model", "edge_constants"})
    steps, chip = [layer.name for layer in library.layers], load_chip("emulated-m4")
    texts = holding[0].get_section_by_name(".rodata.str1.1").data().decode().split("\0")
    assert set(steps) == set(texts) - {""}
    header, target = library.sources["edge_model.h"], load_target("cortex-m4")
    firmware = link_firmware(library.archive, header, chip, target, arena_bytes=library.arena.size, steps=steps)
    assert firmware.model.steps == tuple(steps)
    assert not any(step.encode() + b"\0" in firmware.elf for step in steps)


def test_the_same_plan_gives_the_same_bytes() -> None:
    first, second = (built(NETWORKS["dense"](seed=1), "cortex-m4") for _ in range(2))
    assert first.archive == second.archive and first.sources == second.sources


def test_equal_constants_are_stored_once() -> None:
    twice = [helper.make_node("Mul", ["x", "k"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["b"])]
    more = [helper.make_node("MatMul", ["a", "v"], ["c"]), helper.make_node("Add", ["b", "c"], ["y"])]
    weight = np.arange(1600, dtype=np.float32).reshape(40, 40)
    sizes = [
        built(
            graph_model(twice + more, {"x": [1, 40]}, ["y"], {"k": np.float32(2), "w": weight, "v": other}), "cortex-m4"
        ).weights_bytes
        for other in (weight, weight + 1)
    ]
    assert sizes[0] < 6600 + 400 and sizes[1] > 12800


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0plus", "riscv32imc"])
def test_double_precision_is_refused_by_name(target: str) -> None:
    node = helper.make_node("Mul", ["x", "x"], ["y"], "square")
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, [1, 8]) for name in ("x", "y")]
    graph = helper.make_graph([node], "doubles", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(EdgepruneError) as caught:
        built(model, target)
    assert caught.value.code == "double-unsupported"
    assert caught.value.what == f"'square' computes in float64, and a {target} has no such instructions"
    assert "float32" in caught.value.hint
