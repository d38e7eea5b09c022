"""Cost tables of a small network: what they hold, and that bytes and memory are those of the compiled program."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgeprune.cache import Cache
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.execute import Session
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.lowering.build import build
from edgeprune.lowering.lower import lower
from edgeprune.pattern import Level, Pattern, parse_pattern
from edgeprune.road.cost_store import kept_costs
from edgeprune.road.costing import measured_costs, predicted_costs, ram_bytes, structure_of, with_layouts
from edgeprune.road.predicting import predicted_readings
from edgeprune.road.probes import Probe, Reading, masked, packed_bytes, probes_of
from edgeprune.road.writing import Writer
from edgeprune.search.costs import CostTable
from edgeprune.target import load_target

sys.path.insert(0, str(Path(__file__).parents[1] / "passes"))
from networks import Builder, small_network

HOST = load_target("host")
FEW = msgspec.structs.replace(HOST, patterns=("1x1", "1x16"))
OTHER = msgspec.structs.replace(HOST, patterns=("2:4",))
LAYERS = ("first", "a", "b", "wide", "hidden", "last")


@pytest.fixture(scope="module")
def model():
    return canonicalize(small_network())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def measured(model, cache: Cache) -> Iterator[CostTable]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeprune.road.probes.DENSITIES", (0.25,))
        patch.setattr("edgeprune.bench.rounds._MIN_ROUNDS", 3)
        yield measured_costs(model, FEW, seconds=0.1, cache=cache)


def test_every_layer_but_depthwise_has_a_row_a_pattern(measured: CostTable) -> None:
    assert measured.kind == "measured"
    assert measured.layers == LAYERS
    for costs in measured.layouts:
        for name in LAYERS:
            for cost in costs.layers[name].values():
                assert cost.densities[-1] == 1.0
                assert all(time > 0 for time in cost.times_us)
                assert list(cost.times_us) == sorted(cost.times_us)
    assert [costs.layout for costs in measured.layouts] == ["channels", "pixels", "mixed"]
    assert set(measured.layouts[0].layers["a"]) == {"1x16"}
    assert set(measured.layouts[1].layers["a"]) == {"1x1", "1x16"}


def test_a_second_table_comes_from_the_cache(model, measured: CostTable, cache: Cache) -> None:
    calls = []
    again = measured_costs(model, FEW, cache=Cache(cache.folder), progress=lambda *_: calls.append(1))
    assert again == measured
    assert calls == []


def test_a_table_that_cannot_be_read_is_made_anew(model, measured: CostTable, tmp_path: Path) -> None:
    made = []

    def make() -> CostTable:
        made.append(1)
        return measured

    for _ in range(2):
        assert kept_costs(model, FEW, 1, Cache(tmp_path), make) == measured
    assert len(made) == 1
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    key = path.name
    for damage in (b"", path.read_bytes()[:-10]):
        path.write_bytes(damage)
        assert kept_costs(model, FEW, 1, Cache(tmp_path), make) == measured
    Cache(tmp_path).put("costs", key, b'{"not": "a table"}')
    assert kept_costs(model, FEW, 1, Cache(tmp_path), make) == measured
    assert len(made) == 4
    kept_costs(model, FEW, 2, Cache(tmp_path), make)
    kept_costs(model, OTHER, 1, Cache(tmp_path), make)
    assert len(made) == 6


def test_tables_survive_json(measured: CostTable) -> None:
    data = msgspec.json.encode(measured)
    json.loads(data)
    assert msgspec.json.decode(data, type=CostTable) == measured


def test_packed_bytes_are_those_of_the_program(model) -> None:
    plan = lower(model, HOST)
    found = packed_bytes(plan)
    assert sum(found.values()) == build(plan, HOST).weights_bytes
    assert found["a"] >= 4 * read_weight(weighted_layers(model)[1]).size


def test_memory_is_that_of_the_compiled_program(model) -> None:
    assert ram_bytes(model, HOST) == build(lower(model, HOST), HOST).ram_bytes


@pytest.mark.parametrize("text", ["1x1", "1x8", "2:4"])
def test_masked_layers_keep_what_the_level_says_and_fill_zeros_that_came(text: str, model) -> None:
    pattern = parse_pattern(text)
    level = Level(pattern, pattern.density or 0.25)
    pruned = masked(model, dict.fromkeys(LAYERS, level), seed=1)
    for layer in weighted_layers(pruned):
        kept = np.count_nonzero(read_weight(layer)) / read_weight(layer).size
        if layer.kind == "depthwise":
            assert kept == 1.0
        elif text == "1x1":
            assert kept == pytest.approx(0.25, abs=0.5 / read_weight(layer).size + 0.01)
    same = masked(pruned, {}, seed=1)
    assert all(read_weight(layer).all() for layer in weighted_layers(same))


def test_probes_cover_every_layout_and_pattern() -> None:
    probes = probes_of(HOST, ["x", "y"])
    assert Probe("channels", Level(Pattern(), 1.0)) in probes
    assert Probe("pixels", Level(parse_pattern("1x1"), 0.25)) in probes
    assert probes[-1].layout == {"x": "channels", "y": "pixels"}
    balanced = probes_of(msgspec.structs.replace(HOST, patterns=("2:4",)), [])
    assert [probe.level.density for probe in balanced] == [1.0, 1.0, 0.5]


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_predictions_need_no_machine_and_fall_with_density(name: str, model) -> None:
    table = predicted_costs(model, load_target(name))
    assert table.kind == "predicted"
    assert table.layers == LAYERS
    coarsest = parse_pattern(load_target(name).patterns[-1])
    totals = [table.total(dict.fromkeys(LAYERS, Level(coarsest, share))) for share in (0.1, 0.5, 1.0)]
    assert totals == sorted(totals)
    assert 0 < totals[0] < totals[-1]


def test_more_threads_are_predicted_to_take_less_time(model) -> None:
    structure = structure_of(model)
    probes = probes_of(HOST, structure.images)[:1]
    one, four = (
        predicted_readings(model, HOST, probes, structure, n, 0, Writer(), lambda *_: None)[0][1] for n in (1, 4)
    )
    assert isinstance(one, Reading)
    assert four.whole_us < one.whole_us


def test_noted_layouts_are_those_of_the_table_and_change_no_result(model, measured: CostTable) -> None:
    levels = dict.fromkeys(("a", "b"), Level(parse_pattern("1x1"), 0.1))
    noted = with_layouts(model, measured, levels)
    planar = measured.planar(levels)
    kernels = {step.layer.name: step.layer.kernel for step in lower(noted, HOST).steps if hasattr(step, "layer")}
    if planar:
        for name in ("first", "a", "b"):
            assert ("pixels" in kernels[name]) == (name in planar)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)}
    before, after = Session(model).run(feeds), Session(noted).run(feeds)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_linear_layers_alone_need_no_planar_images() -> None:
    build = Builder(0, [4, 24])
    hidden = build.relu("r", build.add("MatMul", "one", [build.input, build.constant("w1", 24, 32)], [4, 32]))
    linear = canonicalize(build.model(build.add("MatMul", "two", [hidden, build.constant("w2", 32, 16)], [4, 16])))
    table = predicted_costs(linear, HOST)
    assert [costs.layout for costs in table.layouts] == ["channels"]
    half = {"one": Level(parse_pattern("1x16"), 0.5)}
    assert table.total(half) < table.dense_us
    assert table.total({"one": Level(parse_pattern("1x1"), 0.5)}) == table.dense_us
