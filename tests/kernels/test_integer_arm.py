"""The integer convolution on 64-bit Arm: bit by bit under qemu-user, and how many instructions its loops take."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from arm_case import MACHINES, CompiledForArm, skip_without_emulator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integer_case import STORED, cases, make

from edgeprune.kernels.abi import Activation
from edgeprune.kernels.conv2d.shares import Channels
from edgeprune.kernels.integer.dot import IDIOMS
from edgeprune.kernels.integer.entries import MOST_CHAINED, block_rows, group_rows, sections, word_starts
from edgeprune.kernels.integer.integer import build_variant, choose, variants
from edgeprune.kernels.integer.kinds import Kind, common_kinds, counts_by_kind, heir, known_kinds
from edgeprune.kernels.integer.packing import pack

SETTINGS = settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("dot", MACHINES)
def test_any_problem(dot):
    skip_without_emulator()

    @SETTINGS
    @given(cases(MACHINES[dot]), st.lists(st.integers(0, 1000), max_size=1))
    def check(case, cuts):
        case.check(case.build(MACHINES[dot]), cuts=tuple(cuts), compiled=partial(CompiledForArm, dot=dot))

    check()


@pytest.mark.parametrize(("dot", "mode"), [(dot, mode) for dot in MACHINES for mode in IDIOMS[dot].modes])
def test_every_mode(dot, mode):
    skip_without_emulator()
    machine, seed = MACHINES[dot], [*MACHINES].index(dot) + 2 * IDIOMS[dot].modes.index(mode)
    stored, density, widest = STORED[seed % 4], (0.3, 0.6)[seed % 2], (127, 255)[seed // 2 % 2]
    case = make(
        machine=machine, inputs=19 + seed, outputs=21 + seed, height=5, width=7, density=density, block=(1, 16),
        steps=(STORED[2], Activation("Relu")), stored=stored, widest=widest, seed=seed,
    )  # fmt: skip
    found = [v for v in variants(case.problem, case.weights, machine) if any(p.mode == mode for p in v.parts)]
    variant = found[np.random.default_rng(seed).integers(len(found))]
    kernel = build_variant(case.problem, case.weights, case.scales, case.bias, variant)
    case.check(kernel, compiled=partial(CompiledForArm, dot=dot))


@pytest.mark.parametrize("dot", MACHINES)
def test_patterns_pick_their_inputs(dot):
    machine = MACHINES[dot]
    case = make(machine=machine, inputs=64, outputs=64, density=0.25, block=(1, 16))
    assert all(part.picks for part in choose(case.problem, case.weights, machine).parts)
    dense = make(machine=machine, inputs=64, outputs=64)
    assert not any(part.picks for part in choose(dense.problem, dense.weights, machine).parts)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("size", [63, 64, 127, 128])
def test_chains_stay_within_int16(size, sign):
    """The largest weights meet the largest inputs; chains of four are too long from 64 on."""
    skip_without_emulator()
    machine = MACHINES["smull"]
    case = make(machine=machine, inputs=24, outputs=17, height=3, width=5)
    case.weights[:] = sign * size
    case.x[:] = case.problem.x.format.low
    parts = choose(case.problem, case.weights, machine).parts
    assert all(any(kind.short for kind in part.kinds) == (4 * size > MOST_CHAINED) for part in parts)
    case.check(case.build(machine), compiled=partial(CompiledForArm, dot="smull"))


def test_chains_are_short_where_weights_are_large():
    """Of 13 channels in four vectors a few have large weights: each entry is of the kind whose chains suffice."""
    skip_without_emulator()
    machine = MACHINES["smull"]
    case = make(machine=machine, inputs=48, outputs=13, height=4, width=6)
    case.weights[:] = case.weights % 32
    case.weights[:, :, :16, 5] = 127
    case.weights[:, :, 16:32, 12] = -127
    case.weights[:, :, 24:, (1, 9)] = 127
    case.x[:] = case.problem.x.format.low
    (part,) = choose(case.problem, case.weights, machine).parts
    assert {kind.short for kind in part.kinds} == {(1,), (3,), (0, 1, 2, 3)}
    case.check(case.build(machine), compiled=partial(CompiledForArm, dot="smull"))


@pytest.mark.parametrize("large", [0, 127])
def test_the_first_kind_comes_in_pairs_and_by_its_ways(large):
    """Nine entries: where there are several kinds, an odd one goes to the next."""
    machine = MACHINES["smull"]
    case = make(machine=machine, inputs=8, outputs=16, height=4, width=6)
    case.weights[:] = case.weights % 32
    case.weights[0, 2:4, :, 5] = large
    variant = choose(case.problem, case.weights, machine)
    packed = pack(case.problem, variant, case.weights, case.scales, case.bias, None)
    table = packed.table.reshape(-1, 3)
    start, first, _ = table[0]
    assert table[:, 1].sum() == 9 and first == (6 if large else 9)
    found = [*np.cumsum(packed.offsets[start : start + first]), *packed.offsets[start + first + 1 : start + 10]]
    rows = group_rows(case.problem, case.weights, None)[0]
    expected = rows.offsets[word_starts(rows.offsets, 8)[0]]
    assert sorted(np.array(found) + packed.layout.origin) == expected.tolist()


@pytest.mark.parametrize("dot", MACHINES)
@pytest.mark.parametrize("density", [0.15, 0.3])
def test_entries_have_as_many_words_as_their_weights(dot, density):
    """Patterns leave windows that are not full; every kind of entry adds the same sums."""
    skip_without_emulator()
    machine = MACHINES[dot]
    case = make(machine=machine, inputs=16, outputs=16, height=5, width=9, density=density, block=(1, 16), seed=3)
    (part,) = choose(case.problem, case.weights, machine).parts
    assert len({kind.words for kind in part.kinds}) > 1
    case.check(case.build(machine), compiled=partial(CompiledForArm, dot=dot))


def test_chains_of_chosen_elements_are_balanced():
    """Two large weights of each channel: where they are in different lanes no chain leaves int16."""
    case = make(machine=MACHINES["smull"], inputs=8, outputs=8, kernel=(1, 1))
    case.weights[:] = 1
    case.weights[..., (0, 2), :] = 127
    share, idiom = Channels(0, 1, (4, 4), 8), IDIOMS["smull"]
    (block,) = block_rows(group_rows(case.problem, case.weights, None)[0], share)
    known = known_kinds(8, "half tables", idiom)
    counts = {mode: [len(own.offsets) for own in sections(block, mode, idiom)] for mode in ("halves", "half tables")}
    assert counts["halves"][known.index(Kind(4, (0, 1)))] == 1
    assert counts["half tables"][known.index(Kind(4))] == 1
    case.weights[..., 4, :] = 127
    (block,) = block_rows(group_rows(case.problem, case.weights, None)[0], share)
    assert [len(own.offsets) for own in sections(block, "half tables", idiom)][:4] == [0, 0, 0, 1]


def test_few_entries_of_a_kind_join_another():
    known = known_kinds(8, "halves", IDIOMS["smull"])
    full, single, _, every, three, two, _ = known
    assert [kind.words for kind in known] == [4, 4, 4, 4, 3, 2, 1] and every.short == (0, 1)
    counts = np.array([[[9, 12, 1, 0, 0, 2, 0.5]]])
    kinds = common_kinds(counts, known)
    assert kinds == (single, full, two, every) and heir(kinds) == 3
    assert counts_by_kind(counts, known, kinds).tolist() == [[[12, 9, 2.5, 1]]]
    assert common_kinds(np.array([[[9, 0, 0, 0, 0, 0, 0]]]), known) == (full,)
    assert common_kinds(np.array([[[0, 0, 0, 0, 0.25, 3, 0]]]), known) == (two, three)
    assert common_kinds(np.array([[[0.1, 0, 0, 3, 0, 0, 0]]]), known) == (every,)
    assert heir((full, two)) is None
