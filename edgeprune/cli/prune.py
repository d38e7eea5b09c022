"""`edgeprune prune`: the road up to the pruned model, a plain ONNX file."""

from __future__ import annotations

from edgeprune.cli.repeat import run_seeds
from edgeprune.cli.road import RoadRequest, finish


def prune_verb(request: RoadRequest) -> None:
    """Prune a model and write a plain ONNX file.

    \b
    Examples:
      edgeprune prune model.onnx --data card.toml --pattern 2:4 -o pruned.onnx
      edgeprune prune model.onnx --data card.toml --sparsity 0.75 --pattern 1x16 --epochs 4 -o pruned.onnx
    """
    from edgeprune import flow

    request.require_suffix(".onnx", others=(".edge", ".tflite", ".pt2"), hint="; `compile` writes .edge")
    if request.repeat > 1:
        run_seeds(request, flow.prune, "Pruned model")
        return
    with request.console.work() as progress:
        result = flow.prune(
            request.model,
            target=request.target,
            data=request.data,
            output=request.output,
            options=request.options,
            progress=progress,
        )
    finish(request, result, "Pruned model")
