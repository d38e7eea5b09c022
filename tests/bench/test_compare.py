from types import SimpleNamespace

import numpy as np
import pytest

from edgeprune.bench import compare
from edgeprune.bench.compare import Rivals, bench
from edgeprune.bench.peers import Peer
from edgeprune.bench.profile import layer_times
from edgeprune.errors import EdgepruneError


class Model:
    """A compiled model whose steps take known times."""

    steps = ("conv", "conv", "gemm")
    start_ms = 0.5

    def __init__(self):
        self.profiled, self.ran = 0, 0

    def bind(self, inputs):
        return SimpleNamespace(call=self.count)

    def count(self):
        self.ran += 1

    def profile(self, inputs):
        self.profiled += 1
        return np.array([1000, 500, 250]) * (100 if self.profiled == 1 else self.profiled)


def test_layer_times_add_up_steps_and_leave_the_first_run_out():
    layers = layer_times(Model(), {}, runs=3)
    assert layers == [{"name": "conv", "time_us": 1.5 * 3}, {"name": "gemm", "time_us": 0.25 * 3}]


def test_alone():
    model = Model()
    report = bench(model, {}, seconds=0.0, threads=2)
    assert set(report["latency_ms"]) == {"median", "min", "p90", "runs"}
    assert (report["board"], report["kind"], report["threads"]) == ("local", "measured", 2)
    assert report["peers"] == []
    assert report["start_ms"] == 0.5
    assert report["peers_model"] is None
    assert [layer["name"] for layer in report["layers"]] == ["conv", "gemm"]
    assert model.ran >= report["latency_ms"]["runs"]


def test_with_rivals_some_of_which_fail(monkeypatch):
    calls = []

    def start(runtime, model, feeds, threads):
        assert (model, threads) == (b"model", 1)
        if runtime == "litert":
            raise EdgepruneError("peer-missing", "not installed", where=runtime, hint="pip install ai-edge-litert")
        return Peer(runtime, "1.2", "fp32", lambda: calls.append(runtime), list)

    monkeypatch.setattr(compare, "start_peer", start)
    rivals = Rivals(("litert", "onnxruntime"), b"model", "the model in the package")
    report = bench(Model(), {}, seconds=0.0, rivals=rivals)
    missing, there = report["peers"]
    assert missing == {"runtime": "litert", "error": "not installed; pip install ai-edge-litert"}
    assert set(there) == {"runtime", "version", "precision", "latency_ms", "speedup", "spread_ms"}
    assert there["latency_ms"] > 0
    assert there["speedup"] > 0
    assert report["peers_model"] == "the model in the package"
    assert len(calls) > there["spread_ms"]["runs"]


def test_an_unknown_rival_is_wrong_usage():
    with pytest.raises(EdgepruneError) as caught:
        bench(Model(), {}, rivals=Rivals(("onnxrt",)))
    assert caught.value.exit_code == 2
