"""Latency of compiled models beside ONNX Runtime and OpenVINO: dense, and pruned at given levels.

    python benchmarks/latency.py --data ../shared/data [--threads 1] [--seconds 6] [--only resnet20]

Prints one table; every row was measured in alternating rounds on this machine. Pruned rows are one-shot (no
training): they show speed, not accuracy.
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


def main() -> None:
    arguments = _arguments()
    table = Table(title=f"median ms, {arguments.threads} thread(s), batch 1, measured")
    for column in ("model", "weights", "edgeprune", "onnxruntime", "openvino", "vs onnxruntime", "vs fastest"):
        table.add_column(column, justify="left" if column in ("model", "weights") else "right")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only or MODELS:
            for row, options in ROWS.items():
                if name in ONLY[row]:
                    table.add_row(name, row, *_measured(arguments, name, options, Path(folder) / "model.edge"))
    Console().print(table)


def _measured(arguments: argparse.Namespace, name: str, options: Options, package: Path) -> list[str]:
    file, card = MODELS[name]
    model = arguments.data / "models" / file
    flow.compile(model, data=arguments.data / "cards" / f"{card}.toml", output=package, options=options)
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
    return parser.parse_args()


if __name__ == "__main__":
    main()
