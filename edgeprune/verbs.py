"""What is done with a model or a finished package: judge it, run it, measure it, put it on boards, look inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.metric import Score
from edgeprune.progress import Progress, silent
from edgeprune.road.loading import Source, load_model
from edgeprune.target import load_target

if TYPE_CHECKING:
    import onnx_ir as ir

HERE = "local"
"""The board that is this machine."""


def evaluate(
    model_or_package: Source,
    *,
    data: Source,
    split: str = "test",
    reference: Source | None = None,
    threads: int | None = None,
    board: str = HERE,
    states: Sequence[str] = (),
    progress: Progress = silent,
) -> Score:
    """The metric of a data card for a model or a package; `reference` is the model that fidelity compares with.

    `states` are pairs `IN=OUT` of a model's input and the output that it is in the next inference.
    """
    compared = None if reference is None else load_model(reference)
    if board != HERE:
        from edgeprune.road.on_board import evaluate_on_board

        return evaluate_on_board(model_or_package, data, split, compared, board, threads, progress)
    from edgeprune.road.judging import evaluate_runner
    from edgeprune.road.opened import open_runner

    with open_runner(model_or_package, threads or 1, states) as opened:
        return evaluate_runner(opened, data, split, compared, progress)


def run(
    package: Source,
    input: Source,
    output: Source,
    *,
    threads: int | None = None,
    board: str = HERE,
    progress: Progress = silent,
) -> dict[str, Any]:
    """One inference for every row of the .npz file `input`; the outputs by name go to the .npz file `output`."""
    if board != HERE:
        from edgeprune.road.on_board import run_on_board

        return run_on_board(package, Path(input), Path(output), board, threads, progress)
    from edgeprune.road.judging import run_rows
    from edgeprune.road.opened import open_runner
    from edgeprune.road.rows import read_rows, write_rows

    with open_runner(package, threads or 1) as opened:
        rows = read_rows(Path(input), opened.inputs)
        outputs = run_rows(opened.run, rows, opened.reset, progress)
    write_rows(Path(output), outputs)
    return {"output": str(output), "rows": rows.count}


def bench(
    package: Source,
    *,
    vs: Sequence[str] = (),
    model: Source | None = None,
    threads: int | None = None,
    seconds: float = 5.0,
    board: str = HERE,
    mlperf_tiny: bool = False,
    data: Source | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Latency on this machine, in rounds that alternate with the runtimes `vs` on `model`; or on another board.

    With `mlperf_tiny` a microcontroller is measured as a runner of MLPerf Tiny does, and judged on the test rows of
    `data`.
    """
    if mlperf_tiny:
        from edgeprune.road.mlperf import mlperf_on_board

        return mlperf_on_board(package, board, data, progress)
    if board != HERE:
        from edgeprune.road.on_board import bench_on_board

        return bench_on_board(package, board, tuple(vs), threads, seconds, progress)
    from edgeprune.road.measuring import measure_package

    return measure_package(Path(package), tuple(vs), model, threads or 1, seconds, progress)


def deploy(package: Source, *, board: str, progress: Progress = silent) -> dict[str, Any]:
    """Put a package on a board, check there that it computes what it should, and leave it."""
    from edgeprune.road.on_board import deploy_on_board

    return deploy_on_board(package, board, progress)


def flash(package: Source, *, board: str, progress: Progress = silent) -> dict[str, Any]:
    """Write a package into a microcontroller, or deploy it to another board, and check there that it computes right."""
    from edgeprune.road.on_board import flash_on_board

    return flash_on_board(package, board, progress)


def export(package: Source, output: Source, form: str, *, board: str | None = None) -> dict[str, Any]:
    """A package for a microcontroller as a firmware image (elf, bin, hex, uf2; for `board`) or as a library."""
    from edgeprune.road.exporting import export_package

    return export_package(package, Path(output), form, board)


def verify(
    package: Source,
    *,
    board: str = HERE,
    samples: int = 16,
    data: Source | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compare the outputs of a package on a board with this machine's, for test rows of `data` or seeded noise.

    Raises EdgepruneError (board-outputs-differ).
    """
    from edgeprune.road.on_board import verify_on_board

    return verify_on_board(package, board, samples, data, threads, progress)


def advise(
    model: Source | ir.Model, *, target: str = "host", threads: int = 1, progress: Progress = silent
) -> dict[str, Any]:
    """Which layers pruning makes faster on `target`, from which sparsity on, and why others not.

    Raises EdgepruneError: target-unknown; model-wanted (usage) where a package is given.
    """
    from edgeprune.ir.stored_weights import with_real_weights
    from edgeprune.road.advising import advise_model, require_model
    from edgeprune.road.writing import Writer

    facts = load_target(target)
    require_model(model)
    arrived = load_model(model)
    write = Writer.of(arrived)
    facts = facts.for_precision(write.precision)
    return advise_model(with_real_weights(arrived), facts, threads=threads, write=write, progress=progress)


def inspect(model_or_package: Source) -> dict[str, Any]:
    """What is inside a package or a model file."""
    from edgeprune.package.manifest import inspection
    from edgeprune.package.read import read_package
    from edgeprune.road.inspecting import inspect_model, is_package

    if is_package(model_or_package):
        return inspection(read_package(model_or_package).manifest)
    return inspect_model(load_model(model_or_package))


def report(model_or_package: Source, output: Source, *, bench: Sequence[Path] = ()) -> dict[str, Any]:
    """Write what `inspect` says, and the files `bench` that `bench --json` wrote, as a page with plots."""
    from edgeprune.road.reporting import write_report

    return write_report(Path(model_or_package).name, inspect(model_or_package), bench, Path(output))
