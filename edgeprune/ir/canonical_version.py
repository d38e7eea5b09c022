"""Brings a model to the one operator set that the rest of edgeprune reads."""

from __future__ import annotations

import onnx
import onnx.inliner
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical_stage import reason
from edgeprune.ir.edit import constant

CANONICAL_OPSET = 20
OLDEST_OPSET = 7
IR_VERSION = 10
_RESIZE_POSITIONS = 11


def to_canonical_opset(model: ir.Model) -> ir.Model:
    """The same model in operator set CANONICAL_OPSET; control flow and functions must be gone.

    An operator that is newer, or whose meaning changed later, is written out by the definition that the ONNX
    standard gives in older operators. Raises EdgepruneError (opset-unsupported) where it gives none.
    """
    version = model.graph.opset_imports.get("", CANONICAL_OPSET)
    if version > CANONICAL_OPSET:
        model = _write_out_later(model, version)
        _relabel(model, version)
    elif version < CANONICAL_OPSET:
        model = _convert(model, version)
    model.graph.opset_imports.clear()
    model.graph.opset_imports[""] = CANONICAL_OPSET
    for node in model.graph.all_nodes():
        node.version = None
    return model


def _convert(model: ir.Model, version: int) -> ir.Model:
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model), CANONICAL_OPSET)
    except Exception as error:
        raise _unsupported(version, f"conversion failed: {reason(error)}") from error
    converted = ir.from_proto(proto)
    converted.ir_version = IR_VERSION
    if version < _RESIZE_POSITIONS:
        _keep_old_resizing(converted)
    return converted


def _keep_old_resizing(model: ir.Model) -> None:
    """Say what Upsample and the first Resize meant: positions scaled from the corner, rounded towards the source."""
    for node in model.graph.all_nodes():
        if node.op_type != "Resize" or node.domain:
            continue
        scales = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        node.attributes.add(ir.AttrString("coordinate_transformation_mode", "asymmetric"))
        if node.attributes.get_string("mode", "nearest") == "nearest":
            shrinks = scales is not None and bool((scales < 1).any())
            node.attributes.add(ir.AttrString("nearest_mode", "ceil" if shrinks else "floor"))


def _write_out_later(model: ir.Model, version: int) -> ir.Model:
    """Replace what reads differently in CANONICAL_OPSET by the body that its definition has; bodies may nest."""
    while True:
        later = {node.op_type for node in model.graph.all_nodes() if not _same_meaning(node, version)}
        written = sorted(("", name) for name in later if _has_body(name, version))
        if not written:
            return model
        _name_defaults(model, written, version)
        proto = onnx.inliner.inline_selected_functions(ir.to_proto(model), written, inline_schema_functions=True)
        model = ir.from_proto(proto)


def _name_defaults(model: ir.Model, written: list[tuple[str, str]], version: int) -> None:
    """Give the nodes to be written out every attribute that has a default: bodies refer to them by name."""
    for node in model.graph.all_nodes():
        if (node.domain, node.op_type) not in written:
            continue
        for name, attribute in onnx.defs.get_schema(node.op_type, version, "").attributes.items():
            if name not in node.attributes and attribute.default_value.name:
                node.attributes.add(ir.serde.deserialize_attribute(attribute.default_value))


def _has_body(op_type: str, version: int) -> bool:
    schema = onnx.defs.get_schema(op_type, version, "")
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


def _relabel(model: ir.Model, version: int) -> None:
    for node in model.graph.all_nodes():
        if not _same_meaning(node, version):
            raise _unsupported(version, f"operator {node.op_type} of node '{node.name}' needs opset {version}")
        _drop_later_defaults(node)


def _same_meaning(node: ir.Node, version: int) -> bool:
    """Whether `node` reads the same in CANONICAL_OPSET: same ports, and no attribute that came later."""
    if node.domain:
        return True
    new = onnx.defs.get_schema(node.op_type, version, "")
    if new.since_version <= CANONICAL_OPSET:
        return True
    try:
        old = onnx.defs.get_schema(node.op_type, CANONICAL_OPSET, "")
    except onnx.defs.SchemaError:
        return False
    names = [port.name for port in old.inputs]
    same_ports = names == [port.name for port in new.inputs][: len(names)] and len(node.inputs) <= old.max_input
    return same_ports and all(name in old.attributes or _is_default(node, name, new) for name in node.attributes)


def _is_default(node: ir.Node, name: str, schema: onnx.defs.OpSchema) -> bool:
    default = schema.attributes[name].default_value if name in schema.attributes else None
    if default is None or not default.name:
        return False
    value = onnx.helper.get_attribute_value(default)
    return bool(node.attributes[name].value == (value.decode() if isinstance(value, bytes) else value))


def _drop_later_defaults(node: ir.Node) -> None:
    """Remove attributes that the operator lacks in CANONICAL_OPSET, where they hold their default value."""
    if node.domain:
        return
    old = onnx.defs.get_schema(node.op_type, CANONICAL_OPSET, "")
    for name in [name for name in node.attributes if name not in old.attributes]:
        del node.attributes[name]


def _unsupported(version: int, why: str) -> EdgepruneError:
    return EdgepruneError(
        "opset-unsupported",
        f"the model's operator set {version} cannot be brought to {CANONICAL_OPSET}: {why}",
        where=f"opset {version}",
        hint=f"export the model again with opset_version={CANONICAL_OPSET}",
    )
