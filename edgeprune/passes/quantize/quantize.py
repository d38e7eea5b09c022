"""Quantizes a float network to eight bits without training, written as QDQ ONNX."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError, nearest
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.ir.write_out_recurrent import write_out_recurrent
from edgeprune.passes.quantize.calibration_rows import check_rows
from edgeprune.passes.quantize.clipping import METHODS
from edgeprune.passes.quantize.equalize import equalized
from edgeprune.passes.quantize.grids import choose_grids
from edgeprune.passes.quantize.judge import OutputJudge
from edgeprune.passes.quantize.reconstruct import ROUNDINGS, Reconstruct
from edgeprune.passes.quantize.write import GridChoice, quantized
from edgeprune.progress import Progress, silent

CALIBRATIONS = ("auto", *METHODS)


@dataclass(frozen=True)
class Quantize:
    """Quantize weights, and what they are multiplied with, to eight bits after training.

    Weights are int8, symmetric, with a scale for each output channel: zeros stay zeros. Activations are uint8 with one
    scale and zero point for a tensor. Biases are int32 at the product of both scales. `calibration` is how extents are
    chosen from the values on the calibration rows (one of CALIBRATIONS), `rounding` how weights are rounded (one of
    reconstruct.ROUNDINGS); auto takes what changes outputs least. With `equalize` channels between layers are scaled
    against each other where that changes the outputs less; with `correct_bias` biases make up for the mean error of
    their layers. Layers named in `keep_float` stay in float32, with what they read. At most `rows` rows are used.
    Recurrent layers are written out step by step.
    """

    calibration: str = "auto"
    rounding: str = "auto"
    equalize: bool = True
    correct_bias: bool = True
    seed: int = 0
    keep_float: Collection[str] = ()
    rows: int = 256
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse names that mean nothing: EdgepruneError (option-range)."""
        _check_name(self.calibration, CALIBRATIONS, "calibration")
        _check_name(self.rounding, ROUNDINGS, "rounding")

    def __call__(self, model: ir.Model, calibration: Samples, progress: Progress = silent) -> ir.Model:
        """A QDQ model that computes about what `model`, in canonical form, computes; constants in integers count as
        the numbers that they stand for.

        Raises EdgepruneError: data-missing (no rows), input-mismatch, data-shape, not-finite.
        """
        check_rows(model, calibration)
        real = write_out_recurrent(with_real_weights(model), self.keep_float)
        rows = calibration.slice(0, min(self.rows, calibration.count))
        judge = OutputJudge(real, rows, self.threads)
        choice = self._choice(real, rows, judge, progress)
        if not choice.placement.layers or (self.rounding == "nearest" and not self.correct_bias):
            return quantized(choice)
        reconstruct = Reconstruct(self.rounding, self.correct_bias, self.rows, seed=self.seed, threads=self.threads)
        found = quantized(choice, reconstruct, rows, progress)
        if self.rounding != "auto" or judge.loss(found) <= choice.loss:
            return found
        return quantized(choice)

    def _choice(self, real: ir.Model, rows: Samples, judge: OutputJudge, progress: Progress) -> GridChoice:
        """The grids, of the network as it is or equalized."""
        plain = choose_grids(real, rows, self.calibration, self.keep_float, judge, self.threads, progress)
        changed = equalized(real, self.keep_float) if self.equalize else None
        if changed is None:
            return plain
        other = choose_grids(changed, rows, plain.way, self.keep_float, judge, self.threads, progress)
        return other if other.loss < plain.loss else plain


def _check_name(given: str, known: tuple[str, ...], what: str) -> None:
    if given not in known:
        raise EdgepruneError(
            "option-range", f"{what} '{given}' is not known", where=what, hint=nearest(given, known), exit_code=2
        )
