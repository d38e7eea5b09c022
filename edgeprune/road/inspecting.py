"""What is inside a model file, in the fields that `inspect` shows."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeprune.ir.cost import model_cost
from edgeprune.ir.ports import input_specs, output_names
from edgeprune.ir.quantization import is_quantized
from edgeprune.ir.states import possible_states, states_of
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.mask import coarsest_fit
from edgeprune.metric import Score
from edgeprune.pattern import parse_pattern

if TYPE_CHECKING:
    import onnx_ir as ir

PATTERNS = tuple(parse_pattern(text) for text in ("1x1", "2:4", "1x4", "1x8", "4x1", "4x4", "4x8", "1x16", "4x16"))
"""What the zeros of a layer are compared with, finest first."""

_ZIP_MAGIC = b"PK\x03\x04"


def is_package(path: str | PathLike[str]) -> bool:
    """Whether `path` is an .edge package rather than a model: by its suffix, else by its first bytes."""
    file = Path(path)
    if file.suffix == ".edge":
        return True
    if file.suffix or not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(4) == _ZIP_MAGIC


def inspect_model(
    model: ir.Model, *, target: str | None = None, before: Score | None = None, after: Score | None = None
) -> dict[str, Any]:
    """The facts of a model: work, weights, and for every layer the coarsest pattern that its zeros fit.

    `states` are those that the model brings, `possible_states` what `--state` could be given.
    """
    real = with_real_weights(model)
    quantized = is_quantized(model)
    cost = model_cost(real)
    fitted = {layer.name: _pattern_of(read_weight(layer)) for layer in weighted_layers(real)}
    specs = input_specs(model)
    shapes, dtypes = {spec.name: spec.shape for spec in specs}, {spec.name: spec.dtype for spec in specs}
    accuracy = None
    if before is not None and after is not None:
        accuracy = {"metric": after.metric, "before": before.value, "after": after.value, "samples": after.samples}
    return {
        "target": target,
        "precision": "int8" if quantized else "fp32",
        "inputs": [{"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype} for spec in specs],
        "outputs": output_names(model),
        "states": [
            {
                "name": state.input,
                "result": state.output,
                "shape": list(shapes[state.input]),
                "dtype": dtypes[state.input],
            }
            for state in states_of(model)
        ],
        "possible_states": [
            {"name": name, "results": list(results), "shape": list(shapes[name]), "dtype": dtypes[name]}
            for name, results in possible_states(model).items()
        ],
        "weights_bytes": _stored_bytes(model),
        "macs": cost.macs,
        "dense_macs": cost.dense_macs,
        "nonzero_weights": cost.nonzero_weights,
        "weights": cost.weights,
        "accuracy": accuracy,
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "pattern": fitted.get(layer.name, ""),
                "density": layer.density,
                "macs": layer.macs,
                "dense_macs": layer.dense_macs,
                "kernel": "",
            }
            for layer in cost.layers
        ],
    }


def _stored_bytes(model: ir.Model) -> int:
    """Bytes of the weights as the model stores them."""
    real = {layer.name: read_weight(layer).size for layer in weighted_layers(with_real_weights(model))}
    plain = {layer.name for layer in weighted_layers(model)}
    return sum(size * (4 if name in plain else 1) for name, size in real.items())


def _pattern_of(weight: np.ndarray) -> str:
    if np.all(weight):
        return ""
    found = coarsest_fit(weight, PATTERNS)
    return "" if found is None else str(found)
