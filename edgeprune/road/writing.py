"""How a model of the road is written in the end: as it is, or with its weights in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgeprune.ir.quantization import is_quantized
from edgeprune.ir.stored_weights import with_real_weights

if TYPE_CHECKING:
    import onnx_ir as ir


Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Writer:
    """Passes change real weights; what is judged, compiled and saved has integers as `quantized` has, where given.

    Integers that were trained stay as they are. Real numbers are saved as they are, and compiled to `real`.
    """

    quantized: ir.Model | None = None
    real: Literal["fp32", "fp16"] = "fp32"

    def __call__(self, model: ir.Model) -> ir.Model:
        """The model as it is judged, compiled and saved. Raises EdgepruneError (quantization-invalid)."""
        if self.quantized is None:
            return model
        from edgeprune.passes.quantize.store_weights import StoreWeights, holds_integers

        if holds_integers(model, self.quantized):
            return model
        return StoreWeights(self.quantized)(with_real_weights(model))

    @classmethod
    def of(cls, arrived: ir.Model) -> Writer:
        """The writer for a model that arrived: it keeps its integers where it has some."""
        return cls(arrived) if is_quantized(arrived) else cls()

    @property
    def precision(self) -> Precision:
        """What the weights and activations of most layers are: fp32, fp16 or int8."""
        return self.real if self.quantized is None else "int8"
