from __future__ import annotations

import numpy as np
import pytest

from edgeprune.lowering.aot import emit_source
from edgeprune.lowering.arena import allocate
from edgeprune.lowering.constants import pack_constants
from edgeprune.lowering.plan import Buffer, Call, ClearHalo, Constant, Layer, Plan, Port, Step
from edgeprune.target import load_target


def plan_of(*steps: Step, constants: tuple[Constant, ...] = ()) -> Plan:
    names = {n for s in steps for n in (s.arguments if isinstance(s, Call) else (s.buffer,))}
    buffers = tuple(Buffer(n, 256) for n in sorted(names - {"x", "y"} - {c.name for c in constants}))
    ports = (Port("in", (8, 8), "float32", "x"),), (Port('o"ut\n', (8, 8), "int64", "y"),)
    return Plan(*ports, buffers, constants, steps, {})


def call(arguments: str, writes: str, units: int = 4, name: str = "node") -> Call:
    return Call(
        "kernel", tuple(arguments.split()), tuple(writes.split()), units, Layer(name, "Conv", "k", "1x16", 0.25)
    )


def lines(plan: Plan) -> list[str]:
    text = emit_source(plan, allocate(plan), pack_constants(plan), load_target("x86-64-v3"))["model.c"]
    body = text[text.index("void edge_program") :]
    return [
        line.strip().split("(")[0]
        for line in body.splitlines()
        if line.strip().split("(")[0] in ("STEP", "CLEAR", "MEET")
    ]


def test_one_line_a_call_with_its_node_and_addresses() -> None:
    weights = np.random.default_rng(0).standard_normal(160).astype(np.float32)
    constants = (Constant("w", weights), Constant("b", np.zeros(64, np.float32)))
    plan = plan_of(call("x w b t", "t", name="layer1/conv"), call("t y", "y", 1), constants=constants)
    text = emit_source(plan, allocate(plan), pack_constants(plan), load_target("x86-64-v3"))["model.c"]
    line = "STEP(4, kernel(IN(0), STORED(0), EXPANDED(0), SCRATCH(0), begin, end));"
    assert f"{line} /* layer1/conv: Conv, 1x16 at 0.25 */" in text
    assert text.count("void kernel(") == 1


def test_names_cannot_break_out_of_strings_and_comments() -> None:
    plan = plan_of(call("x y", "y", name='evil */ "name" \\ é\n%s'))
    text = emit_source(plan, allocate(plan), pack_constants(plan), load_target("x86-64-v3"))["model.c"]
    assert text.isascii()
    assert "evil * / " in text
    assert '"evil */ \\042name\\042 \\134 \\303\\251\\012%s"' in text
    assert '"o\\042ut\\012"' in text


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([call("x a", "a"), call("a y", "y")], "STEP MEET STEP"),
        ([call("x a", "a"), call("x y", "y")], "STEP STEP"),
        ([call("x a", "a", 1), call("a y", "y", 1)], "STEP STEP"),
        ([call("x a", "a", 1), call("a y", "y", 2)], "STEP MEET STEP"),
        ([call("x a", "a", 2), call("a y", "y", 1)], "STEP MEET STEP"),
        ([ClearHalo("a", 1, 4, 4, 16, 1, 1, 1, 1), call("x a", "a"), call("a y", "y")], "CLEAR STEP MEET STEP"),
        ([ClearHalo("a", 1, 1, 1, 64, 1, 0, 0, 0), call("x a", "a")], "CLEAR MEET STEP"),
        ([ClearHalo("a", 1, 4, 4, 16, 1, 1, 2, 2), call("x a", "a")], "CLEAR MEET STEP"),
        ([call("x a", "a"), ClearHalo("a", 1, 4, 4, 16, 1, 1, 1, 1), call("a y", "y")], "STEP CLEAR MEET STEP"),
        ([ClearHalo("a", 1, 4, 4, 16, 1, 1, 1, 1), call("a a", "a"), call("a y", "y")], "CLEAR MEET STEP MEET STEP"),
        ([call("x a", "a"), call("x a", "a")], "STEP MEET STEP"),
    ],
)
def test_threads_meet_where_one_needs_anothers_work(steps: list[Step], expected: str) -> None:
    assert " ".join(lines(plan_of(*steps))) == expected


def test_threads_meet_before_memory_is_used_again() -> None:
    steps = [call("x a", "a"), call("a y", "y"), call("x b", "b"), call("b y", "y")]
    plan = plan_of(*steps)
    assert allocate(plan).size == 256
    assert " ".join(lines(plan)) == "STEP MEET STEP MEET STEP MEET STEP"


def test_target_and_its_flags_are_in_the_source() -> None:
    target = load_target("x86-64-v2")
    plan = plan_of(call("x y", "y"))
    text = emit_source(plan, allocate(plan), pack_constants(plan), target)["model.c"]
    assert '"x86-64-v2"' in text
    assert all(f'"{flag}"' in text for flag in target.cpu_flags)
