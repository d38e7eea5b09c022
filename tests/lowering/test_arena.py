from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.lowering.arena import ALIGNMENT, allocate, lifetimes, lower_bound
from edgeprune.lowering.plan import Buffer, Call, ClearHalo, Layer, Plan

LAYER = Layer("n", "Op", "k")


def plan_of(sizes: list[int], steps: list[list[int]]) -> Plan:
    calls = tuple(Call("f", tuple(f"b{i}" for i in step), (), 1, LAYER) for step in steps)
    return Plan((), (), tuple(Buffer(f"b{i}", size) for i, size in enumerate(sizes)), (), calls, {})


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    sizes = draw(st.lists(st.integers(0, 5000), min_size=1, max_size=14))
    step = st.lists(st.integers(0, len(sizes) - 1), max_size=4)
    return plan_of(sizes, draw(st.lists(step, max_size=16)))


def alive_at(plan: Plan, name: str) -> set[int]:
    uses = [i for i, step in enumerate(plan.steps) if isinstance(step, Call) and name in step.arguments]
    return set(range(min(uses), max(uses) + 1)) if uses else set()


@settings(deadline=None, max_examples=150)
@given(plans())
def test_buffers_alive_together_never_share_a_byte(plan: Plan) -> None:
    arena = allocate(plan)
    for i, a in enumerate(plan.buffers):
        first = arena.offsets[a.name]
        assert first % ALIGNMENT == 0
        assert not alive_at(plan, a.name) or first + a.size <= arena.size
        for b in plan.buffers[i + 1 :]:
            if alive_at(plan, a.name) & alive_at(plan, b.name):
                second = arena.offsets[b.name]
                assert first + max(1, a.size) <= second or second + max(1, b.size) <= first


@settings(deadline=None, max_examples=100)
@given(plans())
def test_size_lies_between_the_busiest_step_and_the_sum(plan: Plan) -> None:
    alive = lifetimes(plan)
    busiest = max((sum(x.size for x in alive if x.first <= i <= x.last) for i in range(len(plan.steps))), default=0)
    assert lower_bound(alive) == busiest
    assert busiest <= allocate(plan).size <= sum(x.size for x in alive)


def test_a_chain_needs_two_buffers_only() -> None:
    arena = allocate(plan_of([640] * 9, [[i, i + 1] for i in range(8)]))
    assert arena.size == 2 * 640


def test_a_tapering_network_reaches_the_bound() -> None:
    sizes = [64 * k for k in (100, 90, 10, 80, 80, 30, 20, 5)]
    plan = plan_of(sizes, [[0, 1], [1, 2], [2, 3], [3, 4], [3, 4, 5], [5, 6], [6, 7]])
    assert allocate(plan).size == lower_bound(lifetimes(plan))


def test_clearing_a_halo_begins_a_life() -> None:
    steps = (
        ClearHalo("b", 1, 4, 4, 16, 1, 1, 1, 1),
        Call("f", ("a",), (), 1, LAYER),
        Call("f", ("b",), (), 1, LAYER),
    )
    arena = allocate(Plan((), (), (Buffer("a", 64), Buffer("b", 256)), (), steps, {}))
    assert arena.size == 320


def test_same_plan_same_offsets() -> None:
    plan = plan_of([(i * 7919) % 3000 for i in range(14)], [[i, (i * 5) % 14, (i * 3) % 14] for i in range(14)])
    assert allocate(plan) == allocate(plan)


@pytest.mark.parametrize("sizes", [[], [100]])
def test_no_steps_need_no_memory(sizes: list[int]) -> None:
    assert allocate(plan_of(sizes, [])).size == 0
