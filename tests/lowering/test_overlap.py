"""The memory plan with overlaps: every pair of buffers is checked by brute force at every step."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.lowering.overlap import ALIGNMENT, allocate_overlapping
from edgeprune.lowering.plan import Buffer, Call, Layer, Plan, Port


def chain(sizes, overlaps, extra=()):
    """A plan that reads input, then each buffer in turn; `overlaps[i]` is the distance of step i, None where none."""
    names = ["input", *(f"b{index}" for index in range(len(sizes) - 2)), "output"]
    steps = []
    for index, distance in enumerate(overlaps):
        pairs = () if distance is None else ((names[index], distance),)
        reads = (names[index], *(names[first] for first, last in extra if last == index))
        steps.append(Call("k", (*reads, names[index + 1]), (names[index + 1],), 1, Layer("l", "o", "k"), pairs))
    buffers = tuple(Buffer(name, size) for name, size in zip(names, sizes, strict=True))
    ports = [Port(name, (size,), "int8", name) for name, size in zip(names, sizes, strict=True)]
    return Plan((ports[0],), (ports[-1],), buffers, (), tuple(steps), {})


def lifetimes(plan):
    alive = {}
    for index, step in enumerate(plan.steps):
        for name in step.arguments:
            first, last = alive.get(name, (index, index))
            alive[name] = min(first, index), max(last, index)
    alive["input"] = 0, alive["input"][1]
    alive["output"] = alive["output"][0], len(plan.steps)
    return alive


def check(plan, arena):
    alive, sizes = lifetimes(plan), {buffer.name: buffer.size for buffer in plan.buffers}
    allowed = {}
    for index, step in enumerate(plan.steps):
        for name, distance in step.overlaps:
            if alive[name][1] == index and step.arguments.count(name) == 1:
                allowed[name, step.writes[0]] = distance
    for name, (first, last) in alive.items():
        start = arena.offsets[name]
        assert start >= 0 and start % ALIGNMENT == 0 and start + sizes[name] <= arena.size
        for other, (other_first, other_last) in alive.items():
            if other == name or first > other_last or other_first > last:
                continue
            other_start = arena.offsets[other]
            apart = start + sizes[name] <= other_start or other_start + sizes[other] <= start
            behind = (name, other) in allowed and other_start <= start + allowed[name, other]
            before = (other, name) in allowed and start <= other_start + allowed[other, name]
            assert apart or behind or before, (name, other)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_nothing_is_overwritten_that_is_still_needed(data):
    count = data.draw(st.integers(2, 6))
    sizes = data.draw(st.lists(st.integers(1, 300), min_size=count, max_size=count))
    overlaps = data.draw(st.lists(st.one_of(st.none(), st.integers(-64, 64)), min_size=count - 1, max_size=count - 1))
    extra = data.draw(st.lists(st.tuples(st.integers(0, count - 2), st.integers(0, count - 2)), max_size=2))
    extra = [(first, last) for first, last in extra if first < last]
    plan = chain(sizes, overlaps, extra)
    check(plan, allocate_overlapping(plan))


def test_in_place_takes_one_buffer():
    plan = chain([160, 160, 160], [0, 0])
    assert allocate_overlapping(plan).size == 160


def test_a_row_behind_takes_a_row_more():
    plan = chain([160, 160], [-32])
    assert allocate_overlapping(plan).size == 192


def test_without_overlaps_both_fit():
    assert allocate_overlapping(chain([160, 160, 160], [None, None])).size == 320


def test_what_is_read_later_is_kept():
    plan = chain([160, 160, 160], [0, 0], extra=[(0, 1)])
    check(plan, allocate_overlapping(plan))
    assert allocate_overlapping(plan).size == 320


def test_the_same_plan_the_same_places():
    plan = chain([100, 30, 200, 60], [None, -16, 8])
    assert allocate_overlapping(plan) == allocate_overlapping(plan)
