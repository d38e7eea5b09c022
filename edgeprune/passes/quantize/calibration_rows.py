"""Refuses rows that nothing can be calibrated on."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.ports import input_specs
from edgeprune.passes.finite import check_finite


def check_rows(model: ir.Model, samples: Samples) -> None:
    """Raise EdgepruneError where `samples` cannot calibrate `model`.

    data-missing: there is no row; input-mismatch: an input is missing; data-shape: rows of another shape;
    not-finite: weights or rows hold NaN or infinity.
    """
    if samples.count == 0:
        raise EdgepruneError(
            "data-missing",
            "quantizing needs inputs to calibrate on, and none were given",
            where="--data",
            hint="give a data card (--data CARD.toml), or --random-calibration (then no accuracy is known)",
            exit_code=2,
        )
    for spec in input_specs(model):
        array = samples.inputs.get(spec.name)
        if array is None:
            raise EdgepruneError(
                "input-mismatch",
                f"the calibration data has no input '{spec.name}'",
                where=f"input '{spec.name}'",
                hint=f"it holds: {', '.join(sorted(samples.inputs))}",
            )
        if tuple(array.shape[1:]) not in (spec.row_shape, spec.shape):
            raise EdgepruneError(
                "data-shape",
                f"calibration rows of shape {list(array.shape[1:])} do not fit input '{spec.name}' "
                f"of shape {list(spec.shape)}",
                where=f"input '{spec.name}'",
                hint="use the card that belongs to this model",
            )
    check_finite(model, samples)
