"""The constants of a plan: what is stored plain or coded, where it is found, and that contexts share one expansion."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from library_runner import Context, build, load, pointers
from lowered import canonical, graph_model, run_lowered
from onnx import helper
from small_plan import small_plan

from edgeprune.flow import load_model
from edgeprune.lowering import constants
from edgeprune.lowering.aot import emit_source
from edgeprune.lowering.arena import allocate
from edgeprune.lowering.coding import decode
from edgeprune.lowering.constants import pack_constants, stored_sizes
from edgeprune.lowering.link import build_library
from edgeprune.lowering.lower import lower
from edgeprune.lowering.plan import Constant, Plan
from edgeprune.target import load_target

EDGE_MEMORY, EDGE_DAMAGED = 2, 6
TARGET = load_target("x86-64-v2")


def plan_of(*values: np.ndarray) -> Plan:
    constants = tuple(Constant(f"c{index}", value) for index, value in enumerate(values))
    return Plan((), (), (), constants, (), {})


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def test_plain_ones_are_aligned_and_equal_ones_stored_once() -> None:
    values = [noise(48), noise(80, 1), noise(48), np.zeros(400, np.int8), np.zeros(400, np.uint8)]
    plan = plan_of(*values)
    packed = pack_constants(plan)
    assert packed.plain["c0"] == packed.plain["c2"] != packed.plain["c1"]
    assert packed.records == 192 + 320
    for name, offset in packed.plain.items():
        value = values[int(name[1:])]
        assert offset % 64 == 0
        np.testing.assert_array_equal(np.frombuffer(packed.blob, value.dtype, value.size, offset), value)
    assert packed.coded == {"c3": 0, "c4": 0}
    assert packed.expanded_bytes == 448
    assert decode(packed.blob[packed.records :]).tobytes() == bytes(400)


def test_noncontiguous_constants_are_stored_row_major() -> None:
    value = noise(64).reshape(4, 16).T
    packed = pack_constants(plan_of(value))
    np.testing.assert_array_equal(np.frombuffer(packed.blob, np.float32, 64), value.ravel())


def test_sizes_add_up_to_what_is_stored() -> None:
    plan = plan_of(noise(48), noise(48), np.arange(90, dtype=np.int32), np.zeros(0), np.arange(90, dtype=np.int32))
    sizes = stored_sizes(plan)
    assert sum(sizes.values()) == len(pack_constants(plan).blob)
    assert (sizes["c0"], sizes["c1"], sizes["c4"]) == (192, 0, 0)
    assert 0 < sizes["c2"] < 30


def test_layers_share_a_codebook_where_that_is_smaller() -> None:
    generator = np.random.default_rng(0)
    layers = [np.rint(generator.normal(0, 35, 800)).astype(np.int8) for _ in range(12)]
    plan = plan_of(*layers)
    packed, sizes = pack_constants(plan), stored_sizes(plan)
    assert packed.expanded_bytes == 12 * 832
    assert sum(sizes.values()) == len(packed.blob) < 0.95 * 12 * 800
    assert sizes["c0"] > sizes["c1"] + 100
    assert pack_constants(plan_of(layers[0])).coded == {}


def test_same_plan_same_bytes() -> None:
    assert pack_constants(small_plan(5000)) == pack_constants(small_plan(5000))


def coded_plan(count: int = 4096) -> Plan:
    """The small plan: whole numbers in it are few and repeat."""
    plan = small_plan(count)
    w = (np.arange(count) % 5).astype(np.float32)
    return replace(plan, constants=(Constant("w", w), Constant("v", w / 8 - 1)))


def wanted(x: np.ndarray) -> np.ndarray:
    w = np.arange(x.size) % 5
    return ((np.exp(x.astype(np.float64)) + w) * (w / 8 - 1))[:, None]


@pytest.fixture(scope="module")
def loaded() -> ctypes.CDLL:
    plan = coded_plan()
    assert set(pack_constants(plan).coded) == {"w", "v"}
    return load(build(plan, TARGET).so)


def context(loaded: ctypes.CDLL, threads: int = 1) -> Context:
    plan = coded_plan()
    return Context(loaded, plan.inputs, plan.outputs, threads)


def test_contexts_share_one_expansion_until_the_last_is_freed(loaded: ctypes.CDLL) -> None:
    x = noise(4096)
    for _ in range(3):
        first, second = context(loaded), context(loaded, 2)
        np.testing.assert_allclose(first.run({"x": x})["y"], wanted(x), rtol=2e-6)
        first.close()
        np.testing.assert_allclose(second.run({"x": x})["y"], wanted(x), rtol=2e-6)
        second.close()


def test_contexts_begin_and_end_in_any_thread(loaded: ctypes.CDLL) -> None:
    x, wrong = noise(4096), []
    result = wanted(x)

    def work() -> None:
        for _ in range(60):
            made = context(loaded)
            if not np.allclose(made.run({"x": x})["y"], result, rtol=2e-6):
                wrong.append(1)
            made.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_memory_of_the_caller_holds_the_constants(loaded: ctypes.CDLL) -> None:
    size = loaded.edge_memory(1)
    assert size > 2 * 4 * 4096
    memory, handle = (ctypes.c_uint8 * (size + 1))(), ctypes.c_void_p()
    memory[size] = 99
    start = ctypes.c_void_p(ctypes.addressof(memory))
    assert loaded.edge_init(ctypes.byref(handle), start, ctypes.c_size_t(size - 1), 1) == EDGE_MEMORY
    assert loaded.edge_init(ctypes.byref(handle), start, ctypes.c_size_t(size), 1) == 0
    shared = context(loaded)
    shared.close()
    x, y = noise(4096), np.empty((4096, 1), np.float32)
    assert loaded.edge_run(handle, pointers([x]), pointers([y])) == 0
    np.testing.assert_allclose(y, wanted(x), rtol=2e-6)
    loaded.edge_free(handle)
    assert memory[size] == 99


def test_damaged_constants_are_an_error_not_a_crash() -> None:
    plan = coded_plan()
    packed = pack_constants(plan)
    blob = bytearray(packed.blob)
    blob[packed.records] ^= 0x0F
    source = emit_source(plan, allocate(plan), packed, TARGET)
    broken = load(build_library(plan.functions, source, bytes(blob), TARGET).so)
    for _ in range(2):
        handle = ctypes.c_void_p()
        assert broken.edge_init(ctypes.byref(handle), None, ctypes.c_size_t(0), 1) == EDGE_DAMAGED
        assert not handle
    assert b"damaged" in broken.edge_error(EDGE_DAMAGED)


def test_small_gains_are_not_worth_memory() -> None:
    value = noise(1000)
    value[:40] = 0
    assert pack_constants(plan_of(value)).coded == {}
    assert constants._WORTH < 1


def test_coded_weights_change_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    values = np.array([0, 0, -0.5, 0.25, 1.5], np.float32)
    weights = {name: generator.choice(values, shape) for name, shape in (("w", (24, 20, 3, 3)), ("v", (20, 24, 1, 1)))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first", pads=[1] * 4),
        helper.make_node("Conv", ["a", "v"], ["y"], name="second"),
    ]
    model = canonical(graph_model(nodes, {"x": [1, 20, 7, 9]}, ["y"], weights))
    feeds = {"x": noise(20 * 63).reshape(1, 20, 7, 9)}
    found = run_lowered(model, feeds, tmp_path, "channels")["y"]
    monkeypatch.setattr(constants, "_choice", lambda value, shared: None)
    np.testing.assert_array_equal(run_lowered(model, feeds, tmp_path, "channels", threads=2)["y"], found)


def test_deep_compressed_weights_are_stored_small(data_dir: Path) -> None:
    path = data_dir / "models/squeezenet_dc/squeezenet1.0_deepcompressed.onnx"
    packed = pack_constants(lower(load_model(path), load_target("x86-64-v3")))
    assert len(packed.blob) < 0.12 * path.stat().st_size
