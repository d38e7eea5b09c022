"""int8: speed beside the int8 peers, dense and pruned; bytes of what is stored; accuracy with and without both.

    python benchmarks/int8.py --data ../shared/data [--only dense pruned size accuracy] [--models resnet20 ...]

Sections: dense (every model in int8, nothing removed, in alternating rounds with its peers), pruned (at most
--max-drop points lost, beside the fastest int8 peer on the dense model), size (what is stored of the fp32 file, and
bytes of a kept weight by pattern, one shot), accuracy (dense and pruned, fp32 and int8, of every labelled pair of model
and card).
Peers are ONNX Runtime and OpenVINO on the model as ONNX Runtime's quantizer makes it where it arrives in float, and on
the imported model, beside LiteRT on the file, where it arrives in int8. One thread; a line is printed once it is known.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune import flow
from edgeprune.errors import EdgepruneError
from edgeprune.options import Options

INT8_PEERS = ("onnxruntime-int8", "openvino-int8")


@dataclass(frozen=True)
class Subject:
    """A model as the field has it: in float, in int8, or both; files below models/, the card below cards/."""

    card: str
    real: str = ""
    stored: str = ""

    def source(self, precision: str) -> str:
        """The file to begin with for `precision`."""
        return (self.stored or self.real) if precision == "int8" else (self.real or self.stored)


SUBJECTS = {
    "resnet20": Subject("cifar10", "cifar_resnet/resnet20.onnx"),
    "squeezenet": Subject("imagenet_squeezenet", "squeezenet_dc/squeezenet1.0_deepcompressed.onnx"),
    "ic_resnet8": Subject("cifar10_raw", "mlperf_tiny/ic_resnet8_float.tflite", "mlperf_tiny/ic_resnet8_int8.tflite"),
    "kws_dscnn": Subject("kws", "mlperf_tiny/kws_dscnn_float.tflite", "mlperf_tiny/kws_dscnn_int8.tflite"),
    "vww_mbv1_025": Subject("vww", "mlperf_tiny/vww_mbv1_025_float.tflite", "mlperf_tiny/vww_mbv1_025_int8.tflite"),
    "mobilenet_0.5_160": Subject("imagenet_mobilenet_v1_160", stored="coral/mobilenet_v1_0.5_160_quant.tflite"),
    "mobilenet_0.25_128": Subject("imagenet_mobilenet_v1_128", stored="coral/mobilenet_v1_0.25_128_quant.tflite"),
    "mnist_lstm": Subject("mnist_lstm", "tflm/mnist_lstm_float.tflite", "tflm/mnist_lstm_int8.tflite"),
    "gesture": Subject("gesture_keypoint", "gesture/keypoint_classifier.tflite"),
}
TIMED = ("resnet20", "squeezenet", "ic_resnet8", "kws_dscnn", "vww_mbv1_025", "mobilenet_0.5_160")
PRUNED = ("resnet20", "ic_resnet8", "vww_mbv1_025")
STORED: Mapping[str, Mapping[str, Any]] = {
    "dense": {"dense": True},
    "4x16": {"pattern": "4x16", "sparsity": 0.75},
    "4x8": {"pattern": "4x8", "sparsity": 0.75},
    "1x16": {"pattern": "1x16", "sparsity": 0.75},
    "2:4": {"pattern": "2:4"},
    "1x1": {"pattern": "1x1", "sparsity": 0.75},
}


@dataclass(frozen=True)
class Bench:
    """Where models and cards lie, and how long things may take."""

    data: Path
    folder: Path
    models: tuple[str, ...]
    choices: argparse.Namespace

    def chosen(self, names: tuple[str, ...]) -> list[str]:
        """Those of `names` that were asked for."""
        return [name for name in names if name in self.models]

    def file(self, name: str, precision: str) -> Path:
        """The file of model `name`."""
        return self.data / "models" / SUBJECTS[name].source(precision)

    def compiled(self, name: str, precision: str, **choices: Any) -> tuple[Path, dict[str, Any]]:
        """The package of model `name`, and what `inspect` says of it."""
        path = self.folder / "model.edge"
        options = Options(precision=precision, best_effort=True, **choices)
        card = self.data / "cards" / f"{SUBJECTS[name].card}.toml"
        return path, flow.compile(self.file(name, precision), data=card, output=path, options=options).inspection

    def timed(self, name: str, package: Path) -> dict[str, Any]:
        """The latency report of `package` beside its int8 peers, and beside ONNX Runtime in float where that is known.

        Peers run the model as it came.
        """
        subject, source = SUBJECTS[name], self.file(name, "int8")
        peers = (*INT8_PEERS, "litert") if subject.stored else (*INT8_PEERS, "onnxruntime")
        return flow.bench(package, vs=peers, model=source, threads=1, seconds=self.choices.seconds)


def speeds(report: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """By peer that ran: milliseconds, and how many times faster ours is."""
    return {peer["runtime"]: (peer["latency_ms"], peer["speedup"]) for peer in report["peers"] if "speedup" in peer}


def fastest(found: Mapping[str, tuple[float, float]]) -> tuple[str, float]:
    """The fastest int8 peer, and how many times faster than it ours is."""
    name = min((name for name in found if name != "onnxruntime"), key=lambda name: found[name][0])
    return name, found[name][1]


def beside(report: Mapping[str, Any]) -> list[str]:
    """Ours, every peer, and the comparison with the fastest int8 one and with ONNX Runtime in float."""
    found = speeds(report)
    times = [f"{found[name][0]:.3f}" if name in found else "-" for name in (*INT8_PEERS, "litert", "onnxruntime")]
    name, ratio = fastest(found)
    real = f"{found['onnxruntime'][1]:.2f}x" if "onnxruntime" in found else "-"
    return [f"{report['latency_ms']['median']:.3f}", *times, f"{ratio:.2f}x {name}", real]


def dense(bench: Bench) -> None:
    """Nothing removed, in int8, beside the peers in int8."""
    line("model", "ours ms", *INT8_PEERS, "litert", "onnxruntime fp32", "vs fastest int8", "vs fp32")
    rule(8)
    for name in bench.chosen(TIMED):
        guarded(name, lambda name=name: beside(bench.timed(name, bench.compiled(name, "int8", dense=True)[0])))


def pruned(bench: Bench) -> None:
    """At most `--max-drop` points lost; latency and size beside the dense model's peers and its fp32 file."""
    line("model", "accuracy", "kept", "weights", "of fp32", "ours ms", *INT8_PEERS, "litert", "onnxruntime fp32",
         "vs fastest int8", "vs fp32")  # fmt: skip
    rule(12)

    def row(name: str) -> list[str]:
        wanted = {"max_drop": bench.choices.max_drop, "epochs": bench.choices.epochs, "minutes": bench.choices.minutes}
        path, facts = bench.compiled(name, "int8", **wanted)
        accuracy = facts["accuracy"]
        told = f"{accuracy['before']:.4f} -> {accuracy['after']:.4f}"
        if 100 * (accuracy["before"] - accuracy["after"]) > bench.choices.max_drop + 1e-9:
            told += ", over the limit"
        return [told, kept(facts), *stored(bench, name, facts)[:2], *beside(bench.timed(name, path))]

    for name in bench.chosen(PRUNED):
        guarded(name, lambda name=name: row(name))


def size(bench: Bench) -> None:
    """What is stored, one shot: percent of the fp32 file, bytes of a kept weight."""
    line("model", "pattern", "kept", "weights", "of fp32", "bytes a kept weight", "expanded", "code")
    rule(8)
    for name in bench.chosen(("resnet20", "squeezenet")):
        for pattern, choices in STORED.items() if name == "resnet20" else [("dense", STORED["dense"])]:

            def row(name: str = name, pattern: str = pattern, choices: Mapping[str, Any] = choices) -> list[str]:
                training = {} if "dense" in choices else {"epochs": 0}
                _, facts = bench.compiled(name, "int8", **choices, **training)
                return [pattern, kept(facts), *stored(bench, name, facts), str(facts["code_bytes"])]

            guarded(name, row)


def accuracy(bench: Bench) -> None:
    """Every labelled pair: dense and pruned, in fp32 and in int8."""
    line("model", "samples", "dense fp32", "dense int8", "sparse fp32", "sparse int8", "kept fp32", "kept int8")
    rule(8)
    sparse = {"sparsity": bench.choices.sparsity, "epochs": bench.choices.epochs, "minutes": bench.choices.minutes}

    def row(name: str) -> list[str]:
        found = [
            facts_of(bench, name, precision, **choices)
            for choices in ({"dense": True}, sparse)
            for precision in ("fp32", "int8")
        ]
        values = [facts if isinstance(facts, str) else f"{facts['accuracy']['after']:.4f}" for facts in found]
        samples = next((str(facts["accuracy"]["samples"]) for facts in found if not isinstance(facts, str)), "-")
        return [samples, *values, *("-" if isinstance(facts, str) else kept(facts) for facts in found[2:])]

    for name in bench.chosen(tuple(SUBJECTS)):
        guarded(name, lambda name=name: row(name))


def facts_of(bench: Bench, name: str, precision: str, **choices: Any) -> dict[str, Any] | str:
    """What `inspect` says of the package, or why there is none."""
    try:
        return bench.compiled(name, precision, **choices)[1]
    except EdgepruneError as error:
        return error.code


def kept(facts: Mapping[str, Any]) -> str:
    return f"{facts['nonzero_weights'] / facts['weights']:.1%}"


def stored(bench: Bench, name: str, facts: Mapping[str, Any]) -> list[str]:
    """Bytes of weights, their share of the model's fp32 file, bytes of a kept weight, and expanded bytes."""
    source = SUBJECTS[name].real
    bytes_ = facts["weights_bytes"]
    share = f"{bytes_ / (bench.data / 'models' / source).stat().st_size:.1%}" if source else "-"
    return [str(bytes_), share, f"{bytes_ / facts['nonzero_weights']:.2f}", str(facts["expanded_bytes"])]


def guarded(name: str, row: Callable[[], list[str]]) -> None:
    """Print the row of `name`, or why there is none."""
    try:
        line(name, *row())
    except EdgepruneError as error:
        line(name, f"{error.code}: {error.what}")


def line(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def rule(count: int) -> None:
    line(*["---"] * count)


SECTIONS = {"dense": dense, "pruned": pruned, "size": size, "accuracy": accuracy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with models/ and cards/")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--models", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--seconds", type=float, default=6.0, help="of measuring, for each line")
    parser.add_argument("--max-drop", type=float, default=1.0)
    parser.add_argument("--sparsity", type=float, default=0.6, help="of the pruned columns of `accuracy`")
    parser.add_argument("--epochs", type=int, help="of recovery; else edgeprune chooses")
    parser.add_argument("--minutes", type=float, help="of recovery at most, for each model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.data, Path(folder), tuple(arguments.models), arguments)
        for name in arguments.only:
            print(f"\n{name}: {SECTIONS[name].__doc__}\n", flush=True)
            SECTIONS[name](bench)


if __name__ == "__main__":
    main()
