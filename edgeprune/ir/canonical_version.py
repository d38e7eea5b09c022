"""Brings a model to the one operator set that the rest of edgeprune reads."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical_stage import reason
from edgeprune.ir.edit import constant

CANONICAL_OPSET = 18
OLDEST_OPSET = 7
IR_VERSION = 10
_RESIZE_POSITIONS = 11
_MEANING_CHANGED = ("GroupNormalization", "GridSample")
_LATER_VALUES = ("wrap", "half_pixel_symmetric")


def to_canonical_opset(model: ir.Model) -> ir.Model:
    """The same model in operator set CANONICAL_OPSET; control flow and functions must be gone.

    Raises EdgepruneError (opset-unsupported) where an operator has no equivalent there.
    """
    version = model.graph.opset_imports.get("", CANONICAL_OPSET)
    if version > CANONICAL_OPSET:
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


def _relabel(model: ir.Model, version: int) -> None:
    for node in model.graph.all_nodes():
        if not _same_meaning(node, version):
            raise _unsupported(version, f"operator {node.op_type} of node '{node.name}' needs opset {version}")


def _same_meaning(node: ir.Node, version: int) -> bool:
    """Whether `node` reads the same in CANONICAL_OPSET: same ports, and no attribute or value that came later."""
    new = onnx.defs.get_schema(node.op_type, version, "")
    if new.since_version <= CANONICAL_OPSET:
        return True
    try:
        old = onnx.defs.get_schema(node.op_type, CANONICAL_OPSET, "")
    except onnx.defs.SchemaError:
        return False
    if node.op_type in _MEANING_CHANGED or any(attribute.value in _LATER_VALUES for attribute in _texts(node)):
        return False
    _drop_later_defaults(node, old, new)
    names = [port.name for port in old.inputs]
    same_ports = names == [port.name for port in new.inputs][: len(names)] and len(node.inputs) <= old.max_input
    return same_ports and all(name in old.attributes for name in node.attributes)


def _texts(node: ir.Node) -> list[ir.Attr]:
    return [attribute for attribute in node.attributes.values() if attribute.type == ir.AttributeType.STRING]


def _drop_later_defaults(node: ir.Node, old: onnx.defs.OpSchema, new: onnx.defs.OpSchema) -> None:
    """Remove attributes that the old operator lacks where they hold their default value."""
    for name in [name for name in node.attributes if name not in old.attributes]:
        default = new.attributes[name].default_value if name in new.attributes else None
        if default is None or not default.name:
            continue
        value = onnx.helper.get_attribute_value(default)
        if node.attributes[name].value == (value.decode() if isinstance(value, bytes) else value):
            del node.attributes[name]


def _unsupported(version: int, why: str) -> EdgepruneError:
    return EdgepruneError(
        "opset-unsupported",
        f"the model's operator set {version} cannot be brought to {CANONICAL_OPSET}: {why}",
        where=f"opset {version}",
        hint=f"export the model again with opset_version={CANONICAL_OPSET}",
    )
