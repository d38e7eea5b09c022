"""The precision part of the road: a model becomes integers first, and is then pruned as one that arrived so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgeprune.errors import EdgepruneError
from edgeprune.ir.quantization import is_quantized
from edgeprune.ir.stored_weights import with_real_weights, without_pairs
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.ir.write_out_recurrent import write_out_recurrent
from edgeprune.metric import drop_points
from edgeprune.options import Options
from edgeprune.passes.permute import Permute
from edgeprune.pattern import Pattern, parse_pattern
from edgeprune.progress import Progress
from edgeprune.road.budgets import has_budget
from edgeprune.road.cutting import CALIBRATION_ROWS, epochs_of
from edgeprune.road.judging import Judge, cores_of
from edgeprune.road.losing import validated
from edgeprune.road.writing import Writer
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

Precision = Literal["fp32", "fp16", "int8", "mixed"]
"""Real numbers, such in half precision, integers wherever kernels have them, or integers but for the layers that lose
most by it."""

_LARGEST_HALF = float(np.finfo(np.float16).max)

_SHARE = 0.5
"""The share of the accuracy limit that quantization may take in a mixed model; the rest is for pruning."""


def precisions(arrived: ir.Model, options: Options) -> tuple[Precision, ...]:
    """What to try, one after another until limits and budgets are met: a float model stays float if it can."""
    if options.precision == "fp32":
        return ("fp32",)
    if options.precision == "fp16":
        return ("fp16",)
    if options.precision == "int8" or is_quantized(arrived):
        return ("int8",)
    by_hand = options.dense or options.sparsity is not None or options.pattern is not None
    return ("fp32", "mixed") if has_budget(options) and not by_hand else ("fp32",)


def in_precision(
    judge: Judge, arrived: ir.Model, precision: Precision, target: Target, options: Options, progress: Progress
) -> Judge:
    """The judge of the model in `precision`; the float original, if there is one, stays its teacher.

    Its channels are put in order before, so that teacher and student have the same. Raises EdgepruneError:
    data-missing (usage), precision-overflow, quantization-invalid, and what the calibration rows may be wrong in.
    """
    if precision == "fp32" or precision == "fp16":
        original = without_pairs(judge.original) if is_quantized(arrived) else judge.original
        if precision == "fp16":
            _require_range(original)
        return replace(judge, original=original, write=Writer(real=precision))
    if is_quantized(arrived):
        return replace(judge, write=Writer.of(arrived))
    _require_data(judge, options)
    if options.permute and not options.dense:
        judge = replace(judge, original=Permute(_coarsest(target, options))(judge.original, progress))
    whole = _quantized(judge, options, frozenset(), progress)
    return whole if precision == "int8" else _mixed(judge, whole, options, progress)


def _quantized(judge: Judge, options: Options, keep_float: frozenset[str], progress: Progress) -> Judge:
    from edgeprune.passes.quantize.quantize import Quantize

    rows = judge.rows("calibrate", CALIBRATION_ROWS)
    learns = epochs_of(judge, options) > 0 and not options.dense
    quantize = Quantize(equalize=not learns, seed=options.seed, threads=cores_of(options), keep_float=keep_float)
    quantized = quantize(judge.original, rows, progress)
    teacher = write_out_recurrent(judge.original, keep_float)
    return replace(judge, original=with_real_weights(quantized), teacher=teacher, write=Writer(quantized))


def _mixed(judge: Judge, whole: Judge, options: Options, progress: Progress) -> Judge:
    """More and more of the layers that lose most stay float, until quantization takes its share of the limit."""
    from edgeprune.passes.quantize.sensitivity import layer_sensitivities

    validate = judge.rows("validate")
    before = validated(judge, judge.original, validate).value

    def within(found: Judge) -> bool:
        after = validated(found, found.original, validate).value
        return drop_points(judge.metric, before, after) <= _SHARE * options.max_drop

    if judge.card is None or within(whole):
        return whole
    calibration = judge.rows("calibrate", CALIBRATION_ROWS)
    losses = layer_sensitivities(judge.original, calibration, threads=cores_of(options), progress=progress)
    worst = sorted(losses, key=lambda name: -losses[name])
    count = 1
    while count <= len(worst) // 2:
        found = _quantized(judge, options, frozenset(worst[:count]), progress)
        if within(found):
            return found
        count *= 2
    return whole


def _coarsest(target: Target, options: Options) -> Pattern:
    """The pattern that channels are ordered for."""
    return parse_pattern(options.pattern or target.for_precision("int8").patterns[-1])


def _require_range(model: ir.Model) -> None:
    """Refuse weights that half precision cannot hold."""
    for layer in weighted_layers(model):
        largest = float(np.abs(read_weight(layer)).max(initial=0.0))
        if largest > _LARGEST_HALF:
            what = f"a weight of {largest:g} is beyond what half precision holds, {_LARGEST_HALF:g}"
            hint = "take --precision fp32"
            raise EdgepruneError("precision-overflow", what, where=f"node {layer.node.name}", hint=hint)


def _require_data(judge: Judge, options: Options) -> None:
    if judge.card is None and not options.random_calibration:
        raise EdgepruneError(
            "data-missing",
            "int8 needs inputs to calibrate on, and none were given",
            where="--precision int8",
            hint="give a data card (--data CARD.toml), or --random-calibration (then no accuracy is known)",
            exit_code=2,
        )
