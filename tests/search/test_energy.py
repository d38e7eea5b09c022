from __future__ import annotations

import msgspec
import pytest

from edgeprune.errors import EdgepruneError
from edgeprune.search.energy import energy_model
from edgeprune.target import load_target, target_names

V3 = load_target("x86-64-v3")


def test_energy_is_work_bytes_and_time() -> None:
    facts = V3.energy
    assert facts is not None
    model = energy_model(V3, weights_bytes=1000, threads=2)
    assert model.of(1e9, 0, 0, 0) == pytest.approx(facts.fp32_mac_pj)
    assert model.of(0, 1e9, 0, 0) == pytest.approx(facts.l2_byte_pj)
    assert model.of(0, 0, 1e9, 0) == pytest.approx(facts.l2_byte_pj)
    assert model.of(0, 0, 0, 1e3) == pytest.approx(2 * facts.static_watts)
    parts = [model.of(5e6, 1e5, 0, 10), model.of(1e6, 0, 2e5, 30)]
    assert sum(parts) == pytest.approx(model.of(6e6, 1e5, 2e5, 40))


def test_weights_beyond_the_cache_come_from_memory() -> None:
    facts = V3.energy
    assert facts is not None
    far = energy_model(V3, weights_bytes=V3.l2_bytes + 1)
    assert far.of(0, 1e9, 0, 0) == pytest.approx(facts.memory_byte_pj)
    assert any("memory, once an inference" in line for line in far.assumptions())


def test_int8_takes_less_than_fp32() -> None:
    assert energy_model(V3, 1, precision="int8").of(1e6, 0, 0, 0) < energy_model(V3, 1).of(1e6, 0, 0, 0) / 2


def test_the_assumptions_say_every_figure_and_its_source() -> None:
    text = "\n".join(energy_model(V3, 1).assumptions())
    facts = V3.energy
    assert facts is not None
    for figure in (facts.fp32_mac_pj, facts.l2_byte_pj, facts.static_watts):
        assert f"{figure:g}" in text
    assert "predicted" in text and "Horowitz" in text


@pytest.mark.parametrize("name", [name for name in target_names() if name.startswith("x86-64")])
def test_every_x86_target_has_facts_in_order(name: str) -> None:
    facts = load_target(name).energy
    assert facts is not None
    assert 0 < facts.int8_mac_pj < facts.fp32_mac_pj
    assert 0 < facts.l2_byte_pj < facts.memory_byte_pj


def test_a_target_without_facts_is_named() -> None:
    bare = msgspec.structs.replace(V3, energy=None)
    with pytest.raises(EdgepruneError) as caught:
        energy_model(bare, 1)
    assert str(caught.value) == (
        "nothing is known of the energy that x86-64-v3 takes [energy-unknown]\n"
        "  where: target x86-64-v3\n"
        "  hint:  add a section [energy] to its file in targets/, or leave --energy out"
    )
