"""The precision part of the road: a model becomes integers first, and is then pruned as one that arrived so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgeprune.errors import EdgepruneError
from edgeprune.ir.quantization import is_quantized
from edgeprune.ir.stored_weights import with_real_weights, without_pairs
from edgeprune.options import Options
from edgeprune.progress import Progress
from edgeprune.road.cutting import CALIBRATION_ROWS
from edgeprune.road.judging import Judge
from edgeprune.road.writing import Writer

if TYPE_CHECKING:
    import onnx_ir as ir


def in_precision(judge: Judge, arrived: ir.Model, options: Options, progress: Progress) -> Judge:
    """The judge of the model in the precision asked for; the float original, if there is one, stays its teacher.

    Raises EdgepruneError: data-missing (usage), quantization-invalid, and what the calibration rows may be wrong in.
    """
    if is_quantized(arrived):
        if options.precision == "fp32":
            return replace(judge, original=without_pairs(judge.original))
        return replace(judge, write=Writer(arrived))
    if options.precision != "int8":
        return judge
    return _quantized(judge, options, progress)


def _quantized(judge: Judge, options: Options, progress: Progress) -> Judge:
    from edgeprune.passes.quantize.quantize import Quantize

    if judge.card is None and not options.random_calibration:
        raise EdgepruneError(
            "data-missing",
            "int8 needs inputs to calibrate on, and none were given",
            where="--precision int8",
            hint="give a data card (--data CARD.toml), or --random-calibration (then no accuracy is known)",
            exit_code=2,
        )
    rows = judge.rows("calibrate", CALIBRATION_ROWS)
    quantized = Quantize(threads=options.threads)(judge.original, rows, progress)
    return replace(judge, original=with_real_weights(quantized), teacher=judge.original, write=Writer(quantized))
