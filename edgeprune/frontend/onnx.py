"""ONNX files to the canonical IR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.dynamic_operators import write_out_dynamic_operators
from edgeprune.frontend.external import embed_external_data
from edgeprune.frontend.integer_operators import write_out_integer_operators
from edgeprune.frontend.qonnx import write_out_quantizers
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.canonical_stage import reason, stage
from edgeprune.ir.canonical_version import CANONICAL_OPSET, OLDEST_OPSET

_LARGEST_FILE = (1 << 31) - 1
_DEFAULT_DOMAINS = ("", "ai.onnx")


def load_onnx(path: str | Path, dimensions: Mapping[str, int] | None = None) -> ir.Model:
    """Read an ONNX file (opset 7 and up, external data included) and bring it to canonical form.

    A dynamic batch is fixed at 1; `dimensions` gives sizes for other symbolic axes by name. Never runs code from
    the file. Raises EdgepruneError: model-missing, model-corrupt, model-unsafe, op-unsupported, opset-unsupported,
    shape-dynamic, dtype-unsupported, model-nan.
    """
    source = Path(path)
    with stage("reading the file"):
        proto = _parse(source)
        embed_external_data(proto, source)
        _use_default_domain(proto)
        write_out_quantizers(proto, list(graphs(proto.graph)))
        write_out_dynamic_operators(list(graphs(proto.graph)))
        write_out_integer_operators(proto, list(graphs(proto.graph)))
        _check_opset(proto, source)
        _check_operators(proto)
        _check_structure(proto, source)
        model = ir.from_proto(proto)
    return canonicalize(model, dimensions)


def _parse(source: Path) -> onnx.ModelProto:
    if not source.is_file():
        raise EdgepruneError(
            "model-missing", f"there is no model file '{source}'", where=str(source), hint="check the path"
        )
    try:
        if source.stat().st_size > _LARGEST_FILE:
            raise _corrupt(source, "an ONNX file holds at most 2 GB; larger weights belong in external data")
        content = source.read_bytes()
    except OSError as error:
        raise EdgepruneError(
            "model-missing",
            f"cannot read '{source}': {error.strerror}",
            where=str(source),
            hint="check its permissions",
        ) from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception as error:
        raise _corrupt(source, "the file is truncated or not an ONNX model; fetch or export it again") from error
    if not proto.HasField("graph") or not proto.graph.output:
        raise _corrupt(source, "the file holds no graph with outputs; fetch or export it again")
    return proto


def _corrupt(source: Path, hint: str) -> EdgepruneError:
    return EdgepruneError(
        "model-corrupt", f"'{source.name}' is not a readable ONNX model", where=str(source), hint=hint
    )


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """`graph` and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") or attribute.graphs else ():
                yield from graphs(inner)


def _check_structure(proto: onnx.ModelProto, source: Path) -> None:
    for output in proto.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.shape.SetInParent()  # the checker wants one; it is inferred anew later
    try:
        onnx.checker.check_model(proto)
    except Exception as error:
        raise _corrupt(source, reason(error)) from error


def _use_default_domain(proto: onnx.ModelProto) -> None:
    for entry in proto.opset_import:
        entry.domain = "" if entry.domain == "ai.onnx" else entry.domain
    for graph in graphs(proto.graph):
        for node in graph.node:
            node.domain = "" if node.domain == "ai.onnx" else node.domain


def _check_opset(proto: onnx.ModelProto, source: Path) -> None:
    version = max((entry.version for entry in proto.opset_import if not entry.domain), default=None)
    if version is None:
        raise _corrupt(source, "the file names no operator set; fetch or export it again")
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= version <= newest:
        raise EdgepruneError(
            "opset-unsupported",
            f"the model uses operator set {version}; {OLDEST_OPSET} to {newest} can be read",
            where=str(source),
            hint=f"export the model again with opset_version={CANONICAL_OPSET}",
        )


def _check_operators(proto: onnx.ModelProto) -> None:
    version = max(entry.version for entry in proto.opset_import if not entry.domain)
    functions = {(function.domain, function.name) for function in proto.functions}
    nodes = [node for graph in graphs(proto.graph) for node in graph.node]
    nodes += [node for function in proto.functions for node in function.node]
    for node in nodes:
        known = (node.domain, node.op_type) in functions or (not node.domain and _has_schema(node.op_type, version))
        if not known:
            raise EdgepruneError(
                "op-unsupported",
                f"operator {node.op_type} of domain '{node.domain or 'ai.onnx'}' is not supported",
                where=f"node '{node.name or (node.output[0] if node.output else '')}' ({node.op_type})",
                hint="only operators of the ONNX standard can be imported; export the model without custom operators",
            )


def _has_schema(op_type: str, version: int) -> bool:
    try:
        return not onnx.defs.get_schema(op_type, version, "").deprecated
    except onnx.defs.SchemaError:
        return False
