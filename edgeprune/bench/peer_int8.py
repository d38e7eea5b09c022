"""int8 models for peers that run ONNX: float ones through ONNX Runtime's own quantizer, at its settings for x86."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.bench.peers import Feeds, by_port, with_constant_weights

_ROWS = 8
_PER_CHANNEL_OPSET = 13
_WARNINGS, _ERRORS = 2, 3


def is_quantized(model: bytes | Path) -> bool:
    """Whether an ONNX model has quantized values: Q/DQ pairs or operators on integers."""
    content = model if isinstance(model, bytes) else model.read_bytes()
    return b"QuantizeLinear" in content or b"QLinearConv" in content


def quantized(model: bytes | Path, rows: Sequence[Feeds]) -> bytes:
    """`model` (ONNX content, or a path) in int8 QDQ form, calibrated on `rows`; one that is quantized stays as it is.

    ONNX Runtime's static quantizer after its preprocessing: activations uint8 by minimum and maximum, weights int8 a
    channel, all eight bits. Rows are inputs by name, or in order, with their batch axis; their shapes become the
    model's. Raises ImportError where ONNX Runtime is not installed, else what the quantizer raises.
    """
    if is_quantized(model):
        return model if isinstance(model, bytes) else model.read_bytes()
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="edgeprune-") as name, _silent():
        given, prepared, done = (Path(name) / f"{stage}.onnx" for stage in ("given", "prepared", "done"))
        given.write_bytes(_fitted(model, rows[0]))
        quant_pre_process(str(given), str(prepared))
        quantization.quantize_static(
            str(prepared),
            str(done),
            _reader(rows, _inputs(prepared)),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=False,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
        return done.read_bytes()


def shuffled_rows(feeds: Feeds, count: int = _ROWS) -> list[Feeds]:
    """`feeds` and copies of it in other orders: rows to calibrate on where there is no data."""
    generator = np.random.default_rng(0)
    shuffles = [
        {name: generator.permutation(array.ravel()).reshape(array.shape) for name, array in feeds.items()}
        for _ in range(count - 1)
    ]
    return [feeds, *shuffles]


def _fitted(model: bytes | Path, feeds: Feeds) -> bytes:
    """The model with the shapes of `feeds` and an opset that has scales a channel, its weights inside."""
    import onnx
    from onnx import version_converter

    source = with_constant_weights(model)
    proto = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
    bound = by_port([port.name for port in proto.graph.input], feeds)
    for port in proto.graph.input:
        for dimension, size in zip(port.type.tensor_type.shape.dim, bound[port.name].shape, strict=True):
            dimension.Clear()
            dimension.dim_value = size
    version = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if version < _PER_CHANNEL_OPSET:
        proto = version_converter.convert_version(proto, _PER_CHANNEL_OPSET)
    return bytes(proto.SerializeToString())


def _inputs(path: Path) -> list[str]:
    import onnx

    return [port.name for port in onnx.load(path).graph.input]


def _reader(rows: Sequence[Feeds], names: Sequence[str]) -> Any:
    """What the quantizer draws its rows from."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Feeds] = iter(rows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            row = next(self._left, None)
            return None if row is None else by_port(names, row)

    return Reader()


@contextmanager
def _silent() -> Iterator[None]:
    """Without what the quantizer and its sessions have to say; sessions of the quantizer take no level of their own."""
    import onnxruntime

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(_ERRORS)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNINGS)
        logging.disable(before)
