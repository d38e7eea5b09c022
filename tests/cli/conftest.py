"""A command line whose road is a recorder: what the verbs pass on is under test, not the stages."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import edgeprune
from edgeprune.cli.main import run_command

INSPECTION = {
    "target": "x86-64-v3",
    "precision": "fp32",
    "backend": "tvm",
    "weights_bytes": 70_000,
    "code_bytes": 9_000,
    "total_bytes": 79_000,
    "ram_bytes": 131_072,
    "macs": 10_200_000,
    "dense_macs": 40_800_000,
    "nonzero_weights": 67_000,
    "weights": 268_000,
    "accuracy": {"metric": "top1", "before": 0.91, "after": 0.9, "samples": 500},
    "layers": [
        {
            "name": "stem",
            "op": "Conv",
            "pattern": "",
            "density": 1.0,
            "macs": 400,
            "dense_macs": 400,
            "kernel": "conv2d",
        }
    ],
}
BENCH = {
    "board": "local",
    "latency_ms": {"median": 0.25, "min": 0.24, "p90": 0.3, "runs": 900},
    "kind": "measured",
    "peers": [{"runtime": "onnxruntime", "precision": "fp32", "latency_ms": 0.9, "speedup": 3.6}],
    "layers": [{"name": "stem", "time_us": 12.5}],
}


@dataclass
class Outcome:
    inspection: dict[str, Any]
    met: bool = True
    shortfall: str = ""


@dataclass
class Score:
    metric: str = "top1"
    value: float = 0.91
    samples: int = 500
    top1_agreement: float | None = None


@dataclass
class Road:
    """Stands in for `edgeprune.flow`: `calls` lists (verb, positional, named); `answers` may be replaced."""

    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    answers: dict[str, Any] = field(
        default_factory=lambda: {
            "compile": Outcome(dict(INSPECTION)),
            "prune": Outcome(dict(INSPECTION)),
            "evaluate": Score(),
            "run": {"output": "out.npz", "rows": 5},
            "bench": dict(BENCH),
            "deploy": {},
            "verify": {},
            "flash": {},
            "export": {},
            "inspect": dict(INSPECTION),
            "report": {"output": "model.html", "bytes": 4096, "runs": []},
            "load_model": "a loaded model",
        }
    )

    def verb(self, name: str) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            self.calls.append((name, positional, named))
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer() if callable(answer) else answer

        return call


@pytest.fixture
def road(monkeypatch: pytest.MonkeyPatch) -> Road:
    recorder = Road()
    module = ModuleType("edgeprune.flow")
    for name in recorder.answers:
        setattr(module, name, recorder.verb(name))
    monkeypatch.setitem(sys.modules, "edgeprune.flow", module)
    monkeypatch.setattr(edgeprune, "flow", module, raising=False)
    return recorder


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object; anything else on standard output fails."""
        return json.loads(self.out)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    def run(*arguments: str | Path) -> Finished:
        capsys.readouterr()
        code = run_command([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return Finished(code, written.out, written.err)

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not read here")
    return path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "package.edge"
    path.write_bytes(b"not read here")
    return path


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.toml"
    path.write_text('metric = "top1"\n', encoding="utf-8")
    return path
