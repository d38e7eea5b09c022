"""Cost tables and budgets of a board that is emulated here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import msgspec
import pytest

from edgeprune.cache import Cache
from edgeprune.emulate.mca import find_mca
from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical import canonicalize
from edgeprune.lowering.build import build
from edgeprune.lowering.lower import lower
from edgeprune.options import Options
from edgeprune.pattern import Level, parse_pattern
from edgeprune.road import costing, drafting, emulating
from edgeprune.road.budgets import shortfalls
from edgeprune.road.costing import CYCLE_MODELS, costs_for, emulated_costs, predicted_costs
from edgeprune.road.drafting import Drafter
from edgeprune.road.emulating import emulated_us, unpredicted
from edgeprune.road.judging import judge_of
from edgeprune.road.probes import masked
from edgeprune.search.costs import CostTable
from edgeprune.target import Target, load_target

sys.path.insert(0, str(Path(__file__).parents[1] / "passes"))
from networks import small_network

PI = load_target("raspberry-pi-4")
FEW = msgspec.structs.replace(PI, patterns=("1x16",))
LAYERS = ("first", "a", "b", "wide", "hidden", "last")


def installed() -> bool:
    try:
        return bool(find_mca()) and shutil.which("qemu-aarch64") is not None
    except EdgepruneError:
        return False


needs_emulation = pytest.mark.skipif(not installed(), reason="qemu-user or llvm-mca is not installed")


@pytest.fixture(scope="module")
def model():
    return canonicalize(small_network())


@pytest.fixture(scope="module")
def table(model, tmp_path_factory: pytest.TempPathFactory) -> CostTable:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeprune.road.probes.DENSITIES", (0.25,))
        return emulated_costs(model, FEW, cache=Cache(tmp_path_factory.mktemp("cache")))


@needs_emulation
def test_a_table_says_what_it_rests_on(table: CostTable) -> None:
    assert (table.kind, table.layers) == ("predicted", LAYERS)
    assert "cortex-a72, times 1.65, within a factor 1.12" in table.basis
    levels = dict.fromkeys(LAYERS, Level(parse_pattern("1x16"), 0.25))
    assert 0 < table.total(levels) < table.dense_us


@needs_emulation
@pytest.mark.parametrize("density", [0.25, 1.0])
def test_costs_add_up_to_the_compiled_model(density: float, model, table: CostTable) -> None:
    levels = dict.fromkeys(LAYERS, Level(parse_pattern("1x16"), density))
    compiled = build(lower(masked(model, levels, 0), FEW, mode="channels"), FEW)
    told = emulated_us(compiled.library, FEW)
    # Steps of a profile hold the few instructions that note the time; there are few beside them in a network so small.
    assert table.total(levels) == pytest.approx(told, rel=0.1)


def test_without_tools_the_cycle_models_say_why(model, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(target: Target, cache: Cache | None = None) -> str:
        raise EdgepruneError("mca-missing", "llvm-mca is not installed", hint="pip install it")

    monkeypatch.setattr(costing, "basis_of", missing)
    table = costs_for(model, FEW)
    assert table.basis == f"{CYCLE_MODELS}; llvm-mca is not installed: pip install it"
    assert table.dense_us == predicted_costs(model, FEW).dense_us


def test_targets_that_are_not_emulated_keep_the_cycle_models(model) -> None:
    table = costs_for(model, msgspec.structs.replace(load_target("jetson-nano"), patterns=("1x16",)))
    assert table.basis == f"{CYCLE_MODELS}; how fast jetson-nano executes what is counted is not known"


def test_other_errors_are_not_taken_for_missing_tools() -> None:
    with pytest.raises(EdgepruneError, match="llvm-mca failed"):
        unpredicted(EdgepruneError("mca-failed", "llvm-mca failed"))


def test_a_missed_prediction_says_its_spread(model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafting, "emulated_us", lambda library, target: 3000.0)
    options = Options(latency=2.0, random_calibration=True)
    drafter = Drafter(None, judge_of(model, None, 0), PI, options)
    figures = drafter.figures(drafter.draft(model, lambda *_: None), model, lambda *_: None, None)
    assert (figures["predicted_latency"], figures["latency_spread"]) == (3000.0, 1.12)
    said = shortfalls(options, None, False, figures)
    assert said == "latency is 3.000 ms (predicted, within a factor 1.12), 1.000 ms over the budget of 2"


def test_nothing_is_predicted_without_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(target: Target, cache: Cache | None = None) -> None:
        raise EdgepruneError("mca-missing", "llvm-mca is not installed")

    monkeypatch.setattr(emulating, "predictor_for", missing)
    assert emulated_us(b"", PI) is None


@needs_emulation
def test_a_library_that_does_not_run_is_told() -> None:
    with pytest.raises(EdgepruneError, match="failed on the emulated raspberry-pi-4") as caught:
        emulated_us(b"not a library", PI)
    assert caught.value.code == "emulator-failed"
