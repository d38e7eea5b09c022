"""LiteRT with XNNPACK, which is on by default, as a peer; it takes .tflite files alone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.bench.peers import Peer, by_port
from edgeprune.errors import EdgepruneError

_MODULES = {"ai_edge_litert.interpreter": "ai-edge-litert", "tflite_runtime.interpreter": "tflite-runtime"}


def start_litert(model: bytes | Path, feeds: Mapping[str, np.ndarray], threads: int) -> Peer:
    """Load a .tflite file on `threads` threads; `feeds` are real-valued, stored as the model's inputs store them.

    Outputs are real-valued too. Raises EdgepruneError (peer-failed) for any other model, ImportError where it is not
    installed.
    """
    module, distribution = _interpreter_module()
    if isinstance(model, bytes) or model.suffix != ".tflite":
        hint = "name the .tflite file of this model with --model"
        raise EdgepruneError("peer-failed", "takes only .tflite models", where="litert", hint=hint)
    interpreter: Any = module.Interpreter(str(model), num_threads=threads)
    interpreter.allocate_tensors()
    ports, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    bound = by_port([port["name"] for port in ports], feeds)
    for port in ports:
        interpreter.set_tensor(port["index"], _stored(bound[port["name"]], port))
    return Peer(
        "litert",
        _installed(distribution),
        _precision(interpreter.get_tensor_details()),
        interpreter.invoke,
        lambda: [_real(interpreter.get_tensor(port["index"]), port) for port in outputs],
    )


def _interpreter_module() -> tuple[Any, str]:
    for name, distribution in list(_MODULES.items())[:-1]:
        try:
            return import_module(name), distribution
        except ImportError:
            continue
    name, distribution = list(_MODULES.items())[-1]
    return import_module(name), distribution


def _stored(array: np.ndarray, port: Mapping[str, Any]) -> np.ndarray:
    """Real numbers in the type, scale and shape of an input."""
    dtype, (scale, zero) = np.dtype(port["dtype"]), port["quantization"]
    if dtype.kind in "iu" and scale:
        limits = np.iinfo(dtype)
        array = np.clip(np.round(array / np.float32(scale)) + zero, limits.min, limits.max)
    return np.ascontiguousarray(array.astype(dtype).reshape(port["shape"]))


def _real(array: np.ndarray, port: Mapping[str, Any]) -> np.ndarray:
    scale, zero = port["quantization"]
    if array.dtype.kind not in "iu" or not scale:
        return array
    return (array.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def _precision(tensors: list[Mapping[str, Any]]) -> str:
    """int8 where anything with a scale has 8 bits but is no weight alone: activations have one scale."""
    eight = [port for port in tensors if np.dtype(port["dtype"]) in (np.int8, np.uint8) and port["quantization"][0]]
    real = [port for port in tensors if np.dtype(port["dtype"]) == np.float32]
    return "int8" if len(eight) > len(real) else "fp32"


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
