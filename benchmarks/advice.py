"""What `advise` says of whole models beside what compiled packages take, at 50, 75 and 87.5 % removed.

    python benchmarks/advice.py --data ../shared/data [--only resnet20] [--patterns 1x16 1x1] [--threads 1]

Packages are one-shot (no training). All packages of a model, the dense one included, are timed in alternating rounds;
`error` compares times, `of speedup` compares speedups over the dense package of the same run, which leaves out how
fast the machine was when the advice was measured.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edgeprune import flow
from edgeprune.bench.rounds import Probed, step_times
from edgeprune.compiled import Package
from edgeprune.data import random_samples
from edgeprune.options import Options

MODELS = {
    "resnet20": ("cifar_resnet/resnet20.onnx", "cifar10"),
    "ultraface": ("ultraface/version-RFB-320.onnx", "faces"),
    "squeezenet": ("squeezenet_dc/squeezenet1.0_deepcompressed.onnx", "imagenet_squeezenet"),
    "fastestdet": ("fastestdet/FastestDet.onnx", "detect_fastestdet"),
}


def main() -> None:
    arguments = _arguments()
    table = Table(title=f"advised and measured ms, {arguments.threads} thread(s), batch 1")
    columns = ("model", "pattern", "removed", "advised", "measured", "error", "advised x", "measured x", "of speedup")
    for column in columns:
        table.add_column(column, justify="left" if column in ("model", "pattern") else "right")
    for name in arguments.only or MODELS:
        for row in _rows(arguments, name):
            table.add_row(name, *row)
    Console(width=120).print(table)


def _rows(arguments: argparse.Namespace, name: str) -> list[list[str]]:
    file, card = MODELS[name]
    model, data = arguments.data / "models" / file, arguments.data / "cards" / f"{card}.toml"
    advice = flow.advise(model, threads=arguments.threads)
    levels = [level for level in advice["levels"] if level["pattern"] in arguments.patterns]
    with tempfile.TemporaryDirectory() as folder:
        packages = []
        for index, level in enumerate([None, *levels]):
            package = Path(folder) / f"{index}.edge"
            flow.compile(model, data=data, output=package, options=_options(level))
            packages.append(package)
        dense, *times = _measured(packages, arguments)
    rows = [["dense", "0 %", *_pair(advice["dense_ms"], dense), "", "", ""]]
    for level, time in zip(levels, times, strict=True):
        advised, measured = level["speedup"], dense / time
        ratios = [f"{advised:.2f}", f"{measured:.2f}", f"{100 * (advised / measured - 1):+.1f} %"]
        rows.append([level["pattern"], f"{100 * level['sparsity']:g} %", *_pair(level["latency_ms"], time), *ratios])
    return rows


def _pair(advised: float, measured: float) -> list[str]:
    return [f"{advised:.3f}", f"{measured:.3f}", f"{100 * (advised / measured - 1):+.1f} %"]


def _options(level: dict[str, object] | None) -> Options:
    if level is None:
        return Options(dense=True)
    return Options(
        sparsity=float(str(level["sparsity"])), pattern=str(level["pattern"]), epochs=0, criterion="magnitude"
    )


def _measured(packages: list[Path], arguments: argparse.Namespace) -> list[float]:
    """Milliseconds of every package."""
    with ExitStack() as stack:
        probed = []
        for path in packages:
            package = stack.enter_context(Package.open(path))
            feeds = random_samples(package.inputs, 1, seed=0).row(0)
            runner = stack.enter_context(package.runner(arguments.threads))
            probed.append(Probed(lambda runner=runner, feeds=feeds: runner.profile(feeds), runner.bind(feeds).call))
        return [times.whole / 1000 for times in step_times(probed, arguments.seconds)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with models/ and cards/")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--patterns", nargs="*", default=["1x1", "1x16"])
    parser.add_argument("--only", nargs="*", choices=sorted(MODELS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
