"""Operators that remember: variables and SVDF. What they remember goes in and comes out as real-valued tensors."""

from __future__ import annotations

from edgeprune.frontend.tflite.activation import activated
from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.graph import shape_of


def var_handle(call: Call) -> None:
    """A name for a variable."""
    name = call.option("SharedName", b"")
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else ""
    call.values.states.name_handle(call.operator.outputs[0], text or call.name)


def read_variable(call: Call) -> None:
    """What was assigned last: in this inference, or before it, and then it is an input."""
    states, name = call.values.states, _variable(call)
    result = call.operator.outputs[0]
    if states.assigned(name) is None:
        states.open(name, call.values.tensors[result].shape)
    value = states.assigned(name)
    assert value is not None
    call.put(value)


def assign_variable(call: Call) -> None:
    """The new value is an output."""
    call.values.states.assign(_variable(call), call.get(1))


def call_once(call: Call) -> None:
    """Starts variables: at zero, which is what the inputs of a first inference have to be."""


def _variable(call: Call) -> str:
    call.tensor(0)
    name = call.values.states.handle(call.index(0))
    if name is None:
        raise call.corrupt("its first input is no variable")
    return name


def svdf(call: Call) -> None:
    """Filters over features, each with a memory of its last results, and a filter over that memory.

    Inputs: rows [batch, features], weights [filters, features], weights [filters, memory], bias, memory [batch,
    filters * memory]. `Rank` filters make one unit.
    """
    rank, states = int(call.option("Rank", 1)), call.values.states
    filters, length = shape_of(call.get(2)) if len(shape_of(call.get(2))) == 2 else (0, 0)
    batch = call.shape(0)[0]
    if rank < 1 or filters < 1 or filters % rank or call.shape(4) != (batch, filters * length):
        raise call.corrupt("weights and memory do not fit")
    name = call.tensor(4).name or f"state_{call.index(4)}"
    memory = states.open(name, call.shape(4))
    call.values.put(call.index(4), memory)
    held = call.reshaped(call.values.get(call.index(4)), (batch, filters, length))
    bounds = (call.vector([number]) for number in (1, length, 2))
    newest = call.add("Gemm", call.get(0), call.get(1), transB=1)
    newest = call.reshaped(call.values.rounded(call.index(4), newest), (batch, filters, 1))
    held = call.add("Concat", call.add("Slice", held, *bounds), newest, axis=2) if length > 1 else newest
    states.assign(name, call.reshaped(held, (batch, filters * length)))
    seen = call.add("ReduceSum", call.add("Mul", held, call.get(2)), call.vector([2]), keepdims=0)
    if rank > 1:
        by_unit = call.reshaped(seen, (batch, filters // rank, rank))
        seen = call.add("ReduceSum", by_unit, call.vector([2]), keepdims=0)
    if call.has(3):
        seen = call.add("Add", seen, call.get(3))
    call.put(activated(call, seen))
