from __future__ import annotations

import ctypes
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from elf import read_elf
from library_runner import Context, build, load, pointers
from small_plan import expected, small_plan

from edgeprune.errors import EdgepruneError
from edgeprune.lowering.aot import emit_source
from edgeprune.lowering.arena import allocate
from edgeprune.lowering.constants import pack_constants
from edgeprune.lowering.link import Library, build_library, runtime_files
from edgeprune.target import Target, load_target, target_names

EDGE_ARGUMENT, EDGE_MEMORY, EDGE_CPU, EDGE_BUSY = 1, 2, 3, 5
TARGET = load_target("x86-64-v2")


@pytest.fixture(scope="module")
def library() -> Library:
    return build(small_plan(), TARGET)


@pytest.fixture(scope="module")
def loaded(library: Library) -> ctypes.CDLL:
    return load(library.so)


def context(loaded: ctypes.CDLL, threads: int) -> Context:
    plan = small_plan()
    return Context(loaded, plan.inputs, plan.outputs, threads)


def inputs(seed: int, count: int = 37) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def test_needs_libc_alone_and_shows_the_interface_alone(library: Library) -> None:
    elf = read_elf(library.so)
    assert elf.needed == ["libc.so.6"]
    assert {"edge_init", "edge_run", "edge_free", "edge_output_dimension", "edge_error"} <= set(elf.exported)
    assert all(name.startswith("edge_") for name in elf.exported)
    assert "edge_constants" not in elf.exported
    assert elf.stack_flags & 1 == 0


def test_every_function_of_the_header_is_there(library: Library) -> None:
    header = runtime_files()["edge.h"]
    declared = {word for word in header.replace("(", " ").replace("*", " ").split() if word.startswith("edge_")}
    promised = {
        name for name in declared if f"{name}(" in header.replace("*", "") and f" {name}(" in header.replace("*", " ")
    }
    assert set(read_elf(library.so).exported) == promised - {"edge_context"}


def test_same_input_same_bytes_and_no_paths(library: Library) -> None:
    again = build(small_plan(), TARGET)
    assert again.so == library.so
    assert b"/tmp/" not in library.so
    assert str(Path.home()).encode() + b"/" not in library.so


def test_code_bytes_leave_the_constants_out(library: Library) -> None:
    packed = pack_constants(small_plan())
    assert library.code_bytes == len(library.so) - len(packed.blob)


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 64])
def test_any_number_of_threads_gives_the_same_result(loaded: ctypes.CDLL, threads: int) -> None:
    made = context(loaded, threads)
    for seed in range(20):
        x = inputs(seed)
        np.testing.assert_allclose(made.run({"x": x})["y"], expected(x), rtol=2e-6)
    made.close()


def test_contexts_of_two_threads_do_not_meet(loaded: ctypes.CDLL) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        made, x = context(loaded, 2), inputs(seed)
        wrong.extend(i for i in range(100) if not np.allclose(made.run({"x": x})["y"], expected(x), rtol=2e-6))
        made.close()

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_a_context_in_use_is_busy() -> None:
    plan = small_plan(2_000_000)
    loaded = load(build(plan, TARGET).so)
    made = Context(loaded, plan.inputs, plan.outputs)
    arrays = [inputs(0, 2_000_000)], [np.empty(2_000_000, np.float32)]
    codes: list[int] = []

    def run_for_a_while() -> None:
        for _ in range(50):
            codes.append(loaded.edge_run(made.handle, pointers(arrays[0]), pointers(arrays[1])))
            if EDGE_BUSY in codes:
                return

    workers = [threading.Thread(target=run_for_a_while) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(codes) == {0, EDGE_BUSY}
    assert b"another thread" in loaded.edge_error(EDGE_BUSY)
    made.close()


def tasks() -> dict[str, str]:
    """The state of each thread of this process."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            found[task.name] = (task / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # the thread ended meanwhile
            continue
    return found


def test_idle_workers_sleep_and_freed_ones_are_gone(loaded: ctypes.CDLL) -> None:
    before = set(tasks())
    made = context(loaded, 5)
    made.run({"x": inputs(1)})
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        states = [state for name, state in tasks().items() if name not in before]
        if states == ["S"] * 4:
            break
        time.sleep(0.02)
    assert states == ["S"] * 4
    made.close()
    assert set(tasks()) <= before


def test_nothing_leaks(loaded: ctypes.CDLL) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def cycle() -> None:
        made = context(loaded, 3)
        made.run({"x": inputs(2)})
        made.close()

    for _ in range(20):
        cycle()
    before = resident()
    for _ in range(300):
        cycle()
    assert resident() - before < 2_000_000


def test_memory_of_the_caller(loaded: ctypes.CDLL) -> None:
    plan, handle = small_plan(), ctypes.c_void_p()
    size = loaded.edge_memory(2)
    memory = (ctypes.c_uint8 * (size + 1))()
    start = ctypes.c_void_p(ctypes.addressof(memory) + 1)
    assert loaded.edge_init(ctypes.byref(handle), start, ctypes.c_size_t(size - 1), 2) == EDGE_MEMORY
    assert not handle
    memory[size] = 123
    guard = bytes(memory[:1])
    assert loaded.edge_init(ctypes.byref(handle), start, ctypes.c_size_t(size), 2) == 0
    x, y = inputs(3), np.empty((37, 1), np.float32)
    assert loaded.edge_run(handle, pointers([x]), pointers([y])) == 0
    np.testing.assert_allclose(y, expected(x), rtol=2e-6)
    loaded.edge_free(handle)
    assert bytes(memory[:1]) == guard
    assert plan.outputs[0].shape == y.shape


def test_wrong_arguments_are_refused(loaded: ctypes.CDLL) -> None:
    handle = ctypes.c_void_p()
    nothing = ctypes.c_size_t(0)
    assert loaded.edge_init(None, None, nothing, 1) == EDGE_ARGUMENT
    assert loaded.edge_init(ctypes.byref(handle), None, nothing, 0) == EDGE_ARGUMENT
    assert loaded.edge_run(None, None, None) == EDGE_ARGUMENT
    loaded.edge_free(None)


def test_ports_and_steps_are_described(loaded: ctypes.CDLL) -> None:
    assert (loaded.edge_input_count(), loaded.edge_output_count(), loaded.edge_step_count()) == (1, 1, 2)
    assert (loaded.edge_input_name(0), loaded.edge_input_dtype(0), loaded.edge_input_bytes(0)) == (
        b"x",
        b"float32",
        148,
    )
    assert (loaded.edge_output_name(0), loaded.edge_output_rank(0)) == (b"y", 2)
    assert [loaded.edge_output_dimension(0, axis) for axis in (-1, 0, 1, 2)] == [-1, 37, 1, -1]
    assert (loaded.edge_input_name(1), loaded.edge_output_name(-1), loaded.edge_input_bytes(9)) == (None, None, 0)
    assert [loaded.edge_step_name(i) for i in (0, 1, 2)] == [b"first", b"second", None]
    assert loaded.edge_target() == b"x86-64-v2"


@pytest.mark.parametrize("threads", [1, 2])
def test_profile_times_every_step(loaded: ctypes.CDLL, threads: int) -> None:
    made = context(loaded, threads)
    times = made.profile({"x": inputs(4)})
    assert len(times) == 2
    assert all(0 < time < 10**10 for time in times)
    made.close()


def with_flags(*flags: str) -> Target:
    return msgspec.structs.replace(TARGET, cpu_flags=flags)


def test_a_processor_that_lacks_a_flag_is_refused() -> None:
    loaded = load(build(small_plan(), with_flags("sse4_2", "no_such_flag")).so)
    handle = ctypes.c_void_p()
    assert loaded.edge_init(ctypes.byref(handle), None, ctypes.c_size_t(0), 1) == EDGE_CPU
    assert not handle
    assert b"processor" in loaded.edge_error(EDGE_CPU)


def test_every_flag_of_every_target_can_be_checked() -> None:
    known = runtime_files()["cpu.c"]
    flags = {flag for name in target_names() if name.startswith("x86") for flag in load_target(name).cpu_flags}
    assert flags
    assert not [flag for flag in flags if f'{{"{flag}",' not in known]


def test_flags_agree_with_the_kernel_of_this_machine() -> None:
    from edgeprune.target import host_cpu_flags

    names = [line.split('"')[1] for line in runtime_files()["cpu.c"].splitlines() if line.startswith('    {"')]
    source = "\n".join(f'int edge_test_{name}(void) {{ return edge_cpu_has("{name}"); }}' for name in names)
    loaded = load(build_with(f'#include "program.h"\n#pragma GCC visibility push(default)\n{source}\n').so)
    found = {name for name in names if getattr(loaded, f"edge_test_{name}")()}
    assert found - {"sse3"} == (host_cpu_flags() & set(names)) - {"sse3"}


def build_with(source: str) -> Library:
    """The small plan's library with one more C file."""
    plan = small_plan()
    packed = pack_constants(plan)
    sources = {**emit_source(plan, allocate(plan), packed, TARGET), "extra.c": source}
    return build_library(plan.functions, sources, packed.blob, TARGET)


def test_borders_are_cleared_and_nothing_else() -> None:
    loaded = load(build_with(
        '#include "program.h"\n__attribute__((visibility("default"))) void edge_test(uint8_t *b, const size_t *s) {'
        "edge_clear_border(b, s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], 0); }"
    ).so)  # fmt: skip
    generator = np.random.default_rng(0)
    for _ in range(300):
        images, cell = generator.integers(1, 4), generator.integers(1, 9)
        top, bottom, left, right, height, width = generator.integers(0, 4, 6)
        rows, columns = top + bottom + height, left + right + width
        memory = np.full(images * rows * columns * cell + 32, 7, np.uint8)
        wanted = memory.copy()
        inside = wanted[16:-16].reshape(images, rows, columns, cell)
        kept = inside[:, top : top + height, left : left + width].copy()
        inside[:] = 0
        inside[:, top : top + height, left : left + width] = kept
        sizes = np.array([images, rows, columns, cell, top, bottom, left, right], np.uint64)
        loaded.edge_test(ctypes.c_void_p(memory.ctypes.data + 16), ctypes.c_void_p(sizes.ctypes.data))
        np.testing.assert_array_equal(memory, wanted)


def test_a_broken_source_gives_one_clear_error() -> None:
    with pytest.raises(EdgepruneError, match="no_such_type") as caught:
        build_with("no_such_type x;")
    assert caught.value.code == "link-failed"
    assert caught.value.where
    assert caught.value.hint


def test_a_function_of_libm_is_refused() -> None:
    show = '__attribute__((visibility("default")))'
    with pytest.raises(EdgepruneError, match="libm"):
        build_with(f"double tgamma(double); {show} double edge_t(double x) {{ return tgamma(x); }}")
