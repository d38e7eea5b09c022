"""The canonical form: what every pass, the trainer and the lowering may rely on.

One operator set (CANONICAL_OPSET), every shape fixed, constants folded, batch norm and constant per-channel
arithmetic folded into the layer before, Gemm in normal form, windows explicit, no control flow, no identities,
no dead nodes, initializers apart from the inputs, every node with a name of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical_activation import recognise_activations
from edgeprune.ir.canonical_affine import fold_affine
from edgeprune.ir.canonical_bounds import simplify_bounds
from edgeprune.ir.canonical_fold import fold_constants, remove_no_ops, remove_unused
from edgeprune.ir.canonical_gemm import normalise_linear
from edgeprune.ir.canonical_movement import join_movements
from edgeprune.ir.canonical_norm import write_out_group_norms, write_out_lp_norms
from edgeprune.ir.canonical_ports import fix_inputs, forget_shapes
from edgeprune.ir.canonical_powers import align_exponents
from edgeprune.ir.canonical_preceding import fold_preceding
from edgeprune.ir.canonical_recurrent import drop_full_lengths
from edgeprune.ir.canonical_resize import simplify_resizes
from edgeprune.ir.canonical_shapes import check_control_flow, check_static, fill_gaps, infer_shapes
from edgeprune.ir.canonical_spatial import name_global_pools, untranspose_convolutions
from edgeprune.ir.canonical_stage import reason, stage
from edgeprune.ir.canonical_transpose import sink_movements
from edgeprune.ir.canonical_version import CANONICAL_OPSET, IR_VERSION, to_canonical_opset
from edgeprune.ir.canonical_window import fold_pads, make_windows_explicit
from edgeprune.ir.copy import copy_model

__all__ = ["CANONICAL_OPSET", "canonicalize"]

Step = Callable[[ir.Model], None]
_ROUNDS = 8
_SIMPLIFICATION: tuple[Step, ...] = (
    fold_constants,
    remove_no_ops,
    infer_shapes,
    align_exponents,
    simplify_resizes,
    write_out_lp_norms,
    drop_full_lengths,
    make_windows_explicit,
    join_movements,
    fold_pads,
    normalise_linear,
    simplify_bounds,
    recognise_activations,
    fold_affine,
    fold_preceding,
    name_global_pools,
    untranspose_convolutions,
    sink_movements,
)
_WEIGHT_READERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LSTM", "GRU", "RNN")


def canonicalize(model: ir.Model, dimensions: Mapping[str, int] | None = None, *, verify: bool = False) -> ir.Model:
    """A new model in canonical form that computes the same outputs.

    A dynamic batch becomes 1; `dimensions` gives sizes for other symbolic axes by name. With `verify`, every
    rewriting step must leave a valid model; the error names the step that does not. Raises EdgepruneError
    (shape-dynamic, op-unsupported, opset-unsupported, model-nan, model-corrupt, dtype-unsupported).
    """
    with stage("reading the graph"):
        model = copy_model(model)
        names = [str(value.name) for value in model.graph.outputs]
        model.ir_version = IR_VERSION
        common.RemoveInitializersFromInputsPass()(model)
        common.InlinePass()(model)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        write_out_group_norms(model)
        remove_unused(model)
        _check_weights(model)
        fix_inputs(model, dimensions or {})
        forget_shapes(model.graph)
        _name_nodes(model)
    with stage("constant folding"):
        _settle(model, [fold_constants], verify)
        check_control_flow(model)
    with stage("opset conversion"):
        model = to_canonical_opset(model)
        forget_shapes(model.graph)
        _name_nodes(model)
    with stage("simplification"):
        _settle(model, _SIMPLIFICATION, verify)
    with stage("shape inference"):
        _finish(model, names)
    _check_weights(model)
    return model


def _settle(model: ir.Model, steps: Sequence[Step], verify: bool) -> None:
    """Repeat `steps` until the graph stops changing."""
    before = None
    for _ in range(_ROUNDS):
        for step in steps:
            step(model)
            _name_values(model.graph)
            if verify:
                _verify(model, step)
        now = [(node.op_type, len(node.inputs)) for node in model.graph]
        if now == before:
            return
        before = now


def _verify(model: ir.Model, step: Step) -> None:
    checked = copy_model(model)
    forget_shapes(checked.graph)
    try:
        infer_shapes(checked)
        onnx.checker.check_model(ir.to_proto(checked), full_check=True)
    except Exception as error:
        raise EdgepruneError(
            "pass-invalid", f"step {step.__name__} left an invalid model", where=step.__name__, hint=reason(error)
        ) from error


def _finish(model: ir.Model, names: Sequence[str]) -> None:
    common.DeduplicateInitializersPass()(model)
    common.OutputFixPass()(model)
    _restore_output_names(model.graph, names)
    remove_unused(model)
    common.TopologicalSortPass()(model)
    _name_nodes(model)
    forget_shapes(model.graph)
    infer_shapes(model)
    fill_gaps(model)
    check_static(model)


def _restore_output_names(graph: ir.Graph, names: Sequence[str]) -> None:
    """Call every output what the user called it, where removing copies or telling outputs apart renamed it."""
    outputs = list(graph.outputs)
    if len(set(names)) < len(names) or [value.name for value in outputs] == list(names):
        return
    wanted = set(names)
    for index, value in enumerate(outputs):
        value.name = f"edgeprune.output.{index}"
    for value in (value for node in graph for value in node.outputs):
        if value.name in wanted:
            value.name = f"{value.name}.inner"
    for value, name in zip(outputs, names, strict=True):
        value.name = name


def _name_nodes(model: ir.Model) -> None:
    """Give every node a name of its own; a name that is taken gets a number."""
    taken: set[str] = set()
    for node in model.graph.all_nodes():
        base = node.name or node.op_type
        name, count = base, 1
        while name in taken:
            name, count = f"{base}_{count}", count + 1
        taken.add(name)
        node.name = name


def _name_values(graph: ir.Graph) -> None:
    """Give every computed value a name of its own; inputs, outputs and initializers keep theirs."""
    kept = {id(value) for value in graph.outputs}
    taken = {value.name for value in (*graph.inputs, *graph.outputs)} | set(graph.initializers)
    for value in (output for node in graph for output in node.outputs):
        if id(value) in kept or value.name == "":
            continue
        base = value.name or "value"
        name, count = base, 1
        while name in taken:
            name, count = f"{base}_{count}", count + 1
        taken.add(name)
        value.name = name


def _check_weights(model: ir.Model) -> None:
    for value in model.graph.initializers.values():
        if value.dtype is None or not value.dtype.is_floating_point() or value.const_value is None:
            continue
        array = value.const_value.numpy()
        is_weight = any(use.node.op_type in _WEIGHT_READERS for use in value.uses())
        if np.isnan(array).any() or (is_weight and np.isinf(array).any()):
            found = "NaN" if np.isnan(array).any() else "infinite"
            raise EdgepruneError(
                "model-nan",
                f"tensor '{value.name}' holds {found} values",
                where=f"initializer '{value.name}'",
                hint="the training diverged or the export went wrong; export a sound checkpoint",
            )
