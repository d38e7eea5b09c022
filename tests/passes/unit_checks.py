"""Checks that cutting units is exact: masked twin against smaller model, another order against the model itself."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune.ir.copy import copy_model
from edgeprune.ir.cost import model_cost
from edgeprune.ir.dependency import find_groups
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs, static_shape
from edgeprune.passes.select_units import SelectUnits
from edgeprune.passes.silence_units import SilenceUnits

AGREEMENT = 1e-4
"""The largest difference allowed, relative to the largest output."""


def inputs_for(model, random, rows=300):
    """Random values for every input of `model`; integers are numbers of rows."""
    feed = {}
    for spec in input_specs(model):
        integral = np.issubdtype(np.dtype(spec.dtype), np.integer)
        drawn = random.integers(0, rows, spec.shape) if integral else random.standard_normal(spec.shape)
        feed[spec.name] = np.asarray(drawn, spec.dtype)
    return feed


def random_units(model, random, least=0.4, shuffled=True):
    """Some units of every group, at least `least` of them; in random order if `shuffled`."""
    kept = {}
    for group in find_groups(model).groups:
        low = 0 if group.kind == "layer" else max(1, int(group.size * least))
        units = random.permutation(group.size)[: random.integers(low, group.size + 1)]
        missed = [section[0] for section in group.sections if not set(section) & set(units.tolist())]
        units = np.concatenate([units, np.unique(missed).astype(int)])
        kept[group.name] = units if shuffled else np.sort(units)
    return kept


def difference(expected, found):
    """The largest difference over all outputs, relative to the largest value of each."""
    assert expected.keys() == found.keys()
    errors = []
    for name, wanted in expected.items():
        assert found[name].shape == wanted.shape and np.all(np.isfinite(wanted)), name
        errors.append(np.abs(found[name] - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1e-3))
    return float(max(errors))


def assert_valid(model):
    """ONNX accepts it, and the shapes that it states are the ones that ONNX infers."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    stated = {value.name: static_shape(value) for node in model.graph for value in node.outputs if value.name}
    bare = copy_model(model)
    for node in bare.graph:
        for value in node.outputs:
            value.shape = None
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(bare), check_type=True, strict_mode=True, data_prop=True)
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        if sizes and all(sizes):
            assert tuple(sizes) == stated.get(value.name, tuple(sizes)), value.name


def check_cut(model, kept, feed):
    """The smaller model is valid, costs less, and computes what the masked twin computes; both are returned."""
    smaller, masked = SelectUnits(kept)(model), SilenceUnits(kept)(model)
    assert_valid(smaller)
    assert difference(Session(masked).run(feed), Session(smaller).run(feed)) < AGREEMENT
    sizes = {group.name: group.size for group in find_groups(model).groups}
    before, after = model_cost(model), model_cost(smaller)
    if before.weights and any(len(units) < sizes[name] for name, units in kept.items()):
        assert after.weights < before.weights and after.dense_macs < before.dense_macs
    return smaller, masked


def check_order(model, order, feed):
    """Another order of all units leaves the outputs as they are; the reordered model is returned."""
    moved = SelectUnits(order)(model)
    assert_valid(moved)
    assert difference(Session(model).run(feed), Session(moved).run(feed)) < AGREEMENT
    return moved


def check_model(model, seed, least=0.5):
    """One random cut and one random order of all units of `model`; its groups are returned."""
    random = np.random.default_rng(seed)
    feed = inputs_for(model, random)
    groups = find_groups(model)
    check_cut(model, random_units(model, random, least), feed)
    check_order(model, {group.name: random.permutation(group.size) for group in groups.groups if group.size > 1}, feed)
    return groups


def check_units(model, seed, least=0.4):
    """Random cuts and random orders of all units of `model`; its groups are returned."""
    random = np.random.default_rng(seed)
    feed = inputs_for(model, random)
    check_cut(model, random_units(model, random, least, shuffled=False), feed)
    check_cut(model, random_units(model, random, least), feed)
    groups = find_groups(model)
    check_order(model, {group.name: random.permutation(group.size) for group in groups.groups if group.size > 1}, feed)
    return groups
