"""What whole numbers at the end of a model, such as those of classes, are made from."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.ir.copy import copy_model

_ENDING = ".scores"


def with_scores(model: ir.Model) -> ir.Model:
    """`model` where an output is real-valued; else a copy with further outputs, first of all.

    These are the scores that its whole numbers were made from, such as what ArgMax compares.
    """
    if any(_is_real(value) for value in model.graph.outputs):
        return model
    model = copy_model(model)
    scores = {id(value): (value, str(output.name)) for output in model.graph.outputs for value in _made_from(output)}
    for index, (value, name) in enumerate(scores.values()):
        value.name = f"{name}{_ENDING}.{index}"
    model.graph.outputs[:0] = [value for value, _ in scores.values()]
    return model


def without_scores(model: ir.Model) -> ir.Model:
    """`model` with the outputs it had before `with_scores`."""
    kept = [value for value in model.graph.outputs if _ENDING not in str(value.name)]
    if len(kept) in (0, len(model.graph.outputs)):
        return model
    model = copy_model(model)
    model.graph.outputs[:] = [value for value in model.graph.outputs if _ENDING not in str(value.name)]
    return model


def _made_from(value: ir.Value) -> list[ir.Value]:
    """The real values nearest before `value`, which is a whole number, that are computed."""
    node = value.producer()
    found: dict[int, ir.Value] = {}
    for source in () if node is None else node.inputs:
        if source is None or source.producer() is None:
            continue
        found |= {id(each): each for each in ([source] if _is_real(source) else _made_from(source))}
    return list(found.values())


def _is_real(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()
