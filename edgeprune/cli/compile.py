"""`edgeprune compile`: the whole road up to a package."""

from __future__ import annotations

from edgeprune.cli.repeat import run_seeds
from edgeprune.cli.road import RoadRequest, finish


def compile_verb(request: RoadRequest) -> None:
    """Prune, compile and pack a model for a target.

    \b
    Examples:
      edgeprune compile model.onnx --data card.toml -o model.edge
      edgeprune compile model.onnx -t x86-64-v3 --data card.toml --sparsity 0.75 --pattern 1x16 -o model.edge
      edgeprune compile model.onnx --data card.toml --latency 0.5 --max-drop 2 -o model.edge
      edgeprune compile model.onnx --data card.toml --profile wearable --repeat 3 -o model.edge
      edgeprune compile model.tflite --board nucleo-l4r5zi --data card.toml -o model.edge
      edgeprune compile model.onnx --dense --random-calibration -o model.edge
    """
    from edgeprune import flow

    others = (".onnx", ".tflite", ".pt2", ".uf2", ".elf", ".hex", ".zip")
    request.require_suffix(".edge", others=others, hint="; `prune` writes .onnx, `export` what other tools take")
    if request.repeat > 1:
        run_seeds(request, flow.compile, "Package")
        return
    with request.console.work() as progress:
        result = flow.compile(
            request.model,
            target=request.target,
            data=request.data,
            output=request.output,
            options=request.options,
            board=request.board,
            progress=progress,
        )
    finish(request, result, "Package")
