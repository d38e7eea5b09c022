"""Other runtimes, each with its best settings for one latency-bound inference at a given number of threads.

Inputs and outputs are bound once, so that a call is the inference and nothing else. The process keeps its CPU affinity:
pin the whole process from outside where that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edgeprune.errors import EdgepruneError, nearest

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Peer:
    """A runtime with a loaded model: `run` is one inference, `outputs` gives what the last one computed."""

    runtime: str
    version: str
    precision: str
    run: Callable[[], object]
    outputs: Callable[[], list[np.ndarray]]


def start_peer(runtime: str, model: bytes | Path, feeds: Feeds, threads: int) -> Peer:
    """Load `model` (ONNX content, or a path) into `runtime` and bind `feeds`, arrays with their batch axis.

    Raises EdgepruneError: peer-unknown (usage); peer-missing where it is not installed; peer-failed where it cannot
    run this model.
    """
    if runtime not in _STARTERS:
        what = f"there is no runtime '{runtime}' to compare with"
        raise EdgepruneError("peer-unknown", what, where="--vs", hint=nearest(runtime, _STARTERS), exit_code=2)
    try:
        return _STARTERS[runtime](model, feeds, threads)
    except EdgepruneError:
        raise
    except ImportError as error:
        hint = f"pip install {_DISTRIBUTIONS[runtime]}"
        raise EdgepruneError("peer-missing", "not installed", where=runtime, hint=hint) from error
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "name the original model with --model"
        raise EdgepruneError("peer-failed", f"cannot run this model: {reason}", where=runtime, hint=hint) from error


def check_peers(runtimes: Sequence[str]) -> None:
    """Raises EdgepruneError (peer-unknown, usage) for a name that `start_peer` does not know."""
    for runtime in runtimes:
        if runtime not in _STARTERS:
            start_peer(runtime, b"", {}, 1)


def _onnxruntime(model: bytes | Path, feeds: Feeds, threads: int) -> Peer:
    """All graph optimisations, sequential execution, spinning workers, inputs and outputs bound in place.

    Weights that the model also declares as inputs are made plain constants: as inputs they keep it from folding.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.log_severity_level = 3
    source = with_constant_weights(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    ports = [port.name for port in session.get_inputs()]
    names = [port.name for port in session.get_outputs()]
    bound = by_port(ports, feeds)
    inputs = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in bound.values()]
    outputs = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in session.run(names, bound)]
    binding = session.io_binding()
    for name, value in zip(ports, inputs, strict=True):
        binding.bind_ortvalue_input(name, value)
    for name, value in zip(names, outputs, strict=True):
        binding.bind_ortvalue_output(name, value)
    return Peer(
        "onnxruntime",
        str(onnxruntime.__version__),
        _onnx_precision(model),
        lambda: session.run_with_iobinding(binding),
        lambda: [value.numpy() for value in outputs],
    )


def _openvino(model: bytes | Path, feeds: Feeds, threads: int) -> Peer:
    """Static shapes, one stream tuned for latency, float32 arithmetic, tensors set once, threads free to move.

    Pinned threads, its default, gain nothing on an idle machine and wait behind others on a busy one.
    """
    import openvino

    core = openvino.Core()
    graph = core.read_model(model if isinstance(model, bytes) else str(model))
    bound = by_port([port.get_any_name() for port in graph.inputs], feeds)
    graph.reshape({name: list(array.shape) for name, array in bound.items()})
    hints = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(graph, "CPU", hints).create_infer_request()
    tensors = {name: openvino.Tensor(array, shared_memory=True) for name, array in bound.items()}
    for name, tensor in tensors.items():
        request.set_tensor(name, tensor)

    def run() -> None:
        request.start_async()
        request.wait()

    return Peer(
        "openvino",
        version("openvino"),
        _onnx_precision(model),
        run,
        lambda: [np.array(tensor.data) for tensor in request.output_tensors],
    )


def _litert(model: bytes | Path, feeds: Feeds, threads: int) -> Peer:
    from edgeprune.bench.peer_litert import start_litert

    return start_litert(model, feeds, threads)


def _onnxruntime_int8(model: bytes | Path, feeds: Feeds, threads: int) -> Peer:
    """As it arrives where it is quantized; else quantized by ONNX Runtime's own quantizer, calibrated on noise."""
    return replace(_onnxruntime(_in_int8(model, feeds), feeds, threads), runtime="onnxruntime-int8")


def _openvino_int8(model: bytes | Path, feeds: Feeds, threads: int) -> Peer:
    """OpenVINO on the same int8 model as ONNX Runtime; it fuses the Q/DQ pairs."""
    return replace(_openvino(_in_int8(model, feeds), feeds, threads), runtime="openvino-int8")


def _in_int8(model: bytes | Path, feeds: Feeds) -> bytes:
    from edgeprune.bench.peer_int8 import quantized, shuffled_rows

    return quantized(model, shuffled_rows(feeds))


def by_port(ports: Sequence[str], feeds: Feeds) -> dict[str, np.ndarray]:
    """`feeds` under the peer's own input names; in order, where it knows them by others."""
    if set(ports) <= set(feeds):
        return {port: np.ascontiguousarray(feeds[port]) for port in ports}
    return {port: np.ascontiguousarray(array) for port, array in zip(ports, feeds.values(), strict=True)}


def with_constant_weights(model: bytes | Path) -> bytes | str:
    """`model` (its path as a string) with weights that it also declares as inputs made constants."""
    import onnx

    unchanged = model if isinstance(model, bytes) else str(model)
    proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model, load_external_data=False)
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [port for port in proto.graph.input if port.name not in constants]
    if len(inputs) == len(proto.graph.input):
        return unchanged
    if isinstance(model, Path):
        onnx.load_external_data_for_model(proto, str(model.parent))
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.ir_version = max(proto.ir_version, 4)
    return bytes(proto.SerializeToString())


def _onnx_precision(model: bytes | Path) -> str:
    from edgeprune.bench.peer_int8 import is_quantized

    return "int8" if is_quantized(model) else "fp32"


_STARTERS: dict[str, Callable[[bytes | Path, Feeds, int], Peer]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "litert": _litert,
    "onnxruntime-int8": _onnxruntime_int8,
    "openvino-int8": _openvino_int8,
}
_DISTRIBUTIONS = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai-edge-litert",
    "onnxruntime-int8": "onnxruntime",
    "openvino-int8": "openvino onnxruntime",
}
