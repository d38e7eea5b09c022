"""Runs a model on ONNX Runtime: the reference that every stage is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.ports import input_specs, output_names
from edgeprune.ir.sharing import share


class Session:
    """One model loaded into ONNX Runtime on the CPU with `threads` threads."""

    def __init__(self, model: ir.Model, threads: int = 1) -> None:
        self.specs = input_specs(model)
        self.outputs = output_names(model)
        self._session = start(ir.to_proto(model).SerializeToString(), threads)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One inference: arrays by input name, with their batch axis, to arrays by output name.

        Raises EdgepruneError (input-mismatch) where a name, shape or dtype does not fit.
        """
        feed = {spec.name: _fitted(inputs, spec.name, spec.shape, spec.dtype) for spec in self.specs}
        return dict(zip(self.outputs, self._session.run(self.outputs, feed), strict=True))

    def run_rows(self, samples: Samples, workers: int = 1) -> dict[str, np.ndarray]:
        """One inference per row, `workers` at a time; outputs by name.

        Rows are stacked along a new first axis where the batch axis 1 was. Outputs whose first axis is not the batch
        axis (size 1) are stacked whole.
        """
        shaped = replace(samples, specs=tuple(self.specs))
        rows = share(workers, lambda index: self.run(shaped.row(index)), range(samples.count))
        return {name: np.stack([_without_batch(row[name]) for row in rows]) for name in self.outputs} if rows else {}


def _without_batch(output: np.ndarray) -> np.ndarray:
    return output[0] if output.ndim and output.shape[0] == 1 else output


def _fitted(inputs: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if name not in inputs:
        raise EdgepruneError("input-mismatch", f"input '{name}' is missing", where=f"input '{name}'")
    array = np.asarray(inputs[name])
    if array.shape != shape:
        raise EdgepruneError(
            "input-mismatch",
            f"input '{name}' has shape {array.shape}, the model takes {shape}",
            where=f"input '{name}'",
        )
    if array.dtype != dtype:
        raise EdgepruneError(
            "input-mismatch", f"input '{name}' is {array.dtype}, the model takes {dtype}", where=f"input '{name}'"
        )
    return np.asarray(array, order="C")


def start(model: bytes, threads: int) -> Any:
    """An ONNX Runtime session on the CPU for a serialized model.

    Raises EdgepruneError (model-not-runnable).
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # by definition: its int8 kernels differ
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EdgepruneError(
            "model-not-runnable", "ONNX Runtime cannot run this model", where="ONNX Runtime", hint=reason
        ) from error
