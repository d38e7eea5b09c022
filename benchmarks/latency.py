"""Latency of compiled models beside ONNX Runtime and OpenVINO: dense, and pruned at given levels.

    python benchmarks/latency.py --data ../shared/data [--threads 1] [--seconds 6] [--only resnet20] [--layers]

Prints one table; every row was measured in alternating rounds on this machine. Pruned rows are one-shot (no
training): they show speed, not accuracy. With --layers, instead, layers of more than a million multiply-accumulates at
75 % in blocks of 1x16: the least of several times, beside what the dense layer takes times the share that is kept.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edgeprune import flow
from edgeprune.options import Options

MODELS = {
    "resnet20": ("cifar_resnet/resnet20.onnx", "cifar10"),
    "squeezenet": ("squeezenet_dc/squeezenet1.0_deepcompressed.onnx", "imagenet_squeezenet"),
    "ultraface": ("ultraface/version-RFB-320.onnx", "faces"),
    "fastestdet": ("fastestdet/FastestDet.onnx", "detect_fastestdet"),
}
ROWS = {
    "dense": Options(dense=True),
    "75 % 1x16": Options(sparsity=0.75, pattern="1x16", epochs=0),
    "87.5 % 1x16": Options(sparsity=0.875, pattern="1x16", epochs=0),
    "80 % 1x1": Options(sparsity=0.8, pattern="1x1", epochs=0),
    "as it arrives": Options(),
}
ONLY = {
    "dense": set(MODELS),
    "75 % 1x16": {"resnet20", "squeezenet"},
    "87.5 % 1x16": {"resnet20", "squeezenet"},
    "80 % 1x1": {"resnet20"},
    "as it arrives": {"squeezenet"},
}


LAYER_ROW, LAYER_MACS, LAYER_RUNS = "75 % 1x16", 1e6, 3


def main() -> None:
    arguments = _arguments()
    Console().print(_by_layer(arguments) if arguments.layers else _by_model(arguments))


def _by_layer(arguments: argparse.Namespace) -> Table:
    table = Table(title=f"us a layer, {arguments.threads} thread(s), measured")
    for column in ("model", "layer", "dense", "kept", "wanted", "takes", "of wanted"):
        table.add_column(column, justify="left" if column in ("model", "layer") else "right")
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted(ONLY[LAYER_ROW] & {*(arguments.only or MODELS)}):
            dense, pruned = (_layers(arguments, name, row, Path(folder) / "model.edge") for row in ("dense", LAYER_ROW))
            for layer, (time, macs) in pruned.items():
                whole, dense_macs = dense[layer]
                if dense_macs > LAYER_MACS:
                    wanted = whole * macs / dense_macs
                    figures = (f"{whole:.1f}", f"{macs / dense_macs:.1%}", f"{wanted:.1f}", f"{time:.1f}")
                    table.add_row(name, layer, *figures, f"{time / wanted:.2f}")
    return table


def _layers(arguments: argparse.Namespace, name: str, row: str, package: Path) -> dict[str, tuple[float, int]]:
    """Microseconds and multiply-accumulates by layer that has any."""
    _compiled(arguments, name, ROWS[row], package)
    reports = [flow.bench(package, threads=arguments.threads, seconds=arguments.seconds) for _ in range(LAYER_RUNS)]
    times = [{layer["name"]: float(layer["time_us"]) for layer in report["layers"]} for report in reports]
    macs = {layer["name"]: int(layer["macs"]) for layer in flow.inspect(package)["layers"] if layer["macs"]}
    return {layer: (min(each[layer] for each in times), count) for layer, count in macs.items()}


def _by_model(arguments: argparse.Namespace) -> Table:
    table = Table(title=f"median ms, {arguments.threads} thread(s), batch 1, measured")
    for column in ("model", "weights", "edgeprune", "onnxruntime", "openvino", "vs onnxruntime", "vs fastest"):
        table.add_column(column, justify="left" if column in ("model", "weights") else "right")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only or MODELS:
            for row, options in ROWS.items():
                if name in ONLY[row]:
                    table.add_row(name, row, *_measured(arguments, name, options, Path(folder) / "model.edge"))
    return table


def _compiled(arguments: argparse.Namespace, name: str, options: Options, package: Path) -> Path:
    """The file of the model that `package` was made from."""
    file, card = MODELS[name]
    model: Path = arguments.data / "models" / file
    flow.compile(model, data=arguments.data / "cards" / f"{card}.toml", output=package, options=options)
    return model


def _measured(arguments: argparse.Namespace, name: str, options: Options, package: Path) -> list[str]:
    model = _compiled(arguments, name, options, package)
    report = flow.bench(
        package, vs=("onnxruntime", "openvino"), model=model, threads=arguments.threads, seconds=arguments.seconds
    )
    peers = {peer["runtime"]: peer for peer in report["peers"]}
    ratios = {runtime: peer["speedup"] for runtime, peer in peers.items() if "speedup" in peer}
    times = [f"{peers[runtime]['latency_ms']:.3f}" if runtime in ratios else "-" for runtime in peers]
    return [
        f"{report['latency_ms']['median']:.3f}",
        *times,
        f"{ratios['onnxruntime']:.2f}x" if "onnxruntime" in ratios else "-",
        f"{min(ratios.values()):.2f}x" if ratios else "-",
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with models/ and cards/")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--only", nargs="*", choices=sorted(MODELS))
    parser.add_argument("--layers", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
