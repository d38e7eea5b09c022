"""What a model remembers from one inference to the next: an input, and the output that it is in the next one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial

import onnx_ir as ir

from edgeprune.data.samples import InputSpec
from edgeprune.errors import EdgepruneError, nearest
from edgeprune.ir.copy import copy_model
from edgeprune.ir.ports import dtype_name, input_specs, static_shape

STATES_KEY = "edgeprune.states"
"""Metadata of a model: its states as a JSON list of [input, output]."""
NO_STATES = "none"
"""What is written in place of a pair so that states which a model brings are plain inputs and outputs."""


@dataclass(frozen=True)
class State:
    """The names of an input and of the output that it is in the next inference; zero in the first one."""

    input: str
    output: str


def states_of(model: ir.Model) -> tuple[State, ...]:
    """The states that are noted on `model`, in order."""
    return tuple(State(*pair) for pair in json.loads(model.metadata_props.get(STATES_KEY, "[]")))


def note_states(model: ir.Model, states: Iterable[State]) -> None:
    """Note `states` on `model`, in place of what was noted before."""
    pairs = [[state.input, state.output] for state in states]
    model.metadata_props.pop(STATES_KEY, None)
    if pairs:
        model.metadata_props[STATES_KEY] = json.dumps(pairs)


def parse_state(text: str) -> State | None:
    """The state written as `IN=OUT`; None for NO_STATES. Raises EdgepruneError (state-invalid, usage)."""
    if text == NO_STATES:
        return None
    source, equals, result = (part.strip() for part in text.partition("="))
    if not (source and equals and result):
        raise _invalid(f"'{text}' is no pair of an input and an output", "write IN=OUT, such as state=stateN")
    return State(source, result)


def with_states(model: ir.Model, texts: Sequence[str]) -> ir.Model:
    """`model` with the states that `texts` name, each `IN=OUT`; without texts those that it brings.

    Raises EdgepruneError (state-invalid, usage) where a pair does not fit the model.
    """
    if not texts:
        check_states(model, states_of(model))
        return model
    states = tuple(state for state in map(parse_state, texts) if state is not None)
    if len(states) < len(texts) and len(texts) > 1:
        raise _invalid(f"'{NO_STATES}' stands beside a pair", f"give pairs, or {NO_STATES} alone")
    model = copy_model(model)
    note_states(model, [])
    return remembering(model, states)


def remembering(model: ir.Model, states: Sequence[State]) -> ir.Model:
    """`model` with its own states, or where it has none with `states`. Raises EdgepruneError as `check_states` does."""
    if not states or states_of(model):
        return model
    check_states(model, states)
    model = copy_model(model)
    note_states(model, states)
    return model


def check_states(model: ir.Model, states: Sequence[State]) -> None:
    """Raises EdgepruneError (state-invalid, usage) where `states` are not inputs and outputs that fit each other."""
    inputs = {str(value.name): value for value in model.graph.inputs}
    outputs = {str(value.name): value for value in model.graph.outputs}
    for state in states:
        source = _named(state.input, inputs, "input")
        result = _named(state.output, outputs, "output")
        if _kind(source) != _kind(result):
            what = f"input '{state.input}' is {_told(source)}, and output '{state.output}' {_told(result)}"
            raise _invalid(what, "a state comes out as it goes in")
    for kind, names, ports in (
        ("input", [state.input for state in states], inputs),
        ("output", [state.output for state in states], outputs),
    ):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise _invalid(f"{kind} '{twice}' is in two states", "name each once")
        if states and len(names) == len(ports):
            raise _invalid(f"every {kind} of the model would be a state", f"an {kind} must be left for the user")


def possible_states(model: ir.Model) -> dict[str, tuple[str, ...]]:
    """What could be noted as states: inputs with the outputs of their shape and type, the likeliest by name first.

    An input and an output are left for the user; what is noted already is not named.
    """
    noted = states_of(model)
    taken = {name for state in noted for name in (state.input, state.output)}
    inputs = [value for value in model.graph.inputs if value.name not in taken]
    outputs = [value for value in model.graph.outputs if value.name not in taken]
    if len(inputs) < 2 or len(outputs) < 2:
        return {}
    fitting = {str(value.name): [str(each.name) for each in outputs if _kind(each) == _kind(value)] for value in inputs}
    return {name: tuple(sorted(found, key=partial(_unlike, name))) for name, found in fitting.items() if found}


def _unlike(name: str, other: str) -> float:
    return -SequenceMatcher(None, name, other).ratio()


def visible_specs(model: ir.Model) -> list[InputSpec]:
    """The inputs of `model` that the user gives: all but its states."""
    hidden = {state.input for state in states_of(model)}
    return [spec for spec in input_specs(model) if spec.name not in hidden]


def state_specs(model: ir.Model) -> list[InputSpec]:
    """The inputs of `model` that are states, in their order."""
    hidden = {state.input for state in states_of(model)}
    return [spec for spec in input_specs(model) if spec.name in hidden]


def _named(name: str, ports: dict[str, ir.Value], kind: str) -> ir.Value:
    if name not in ports:
        raise _invalid(f"the model has no {kind} '{name}'", nearest(name, ports))
    return ports[name]


def _kind(value: ir.Value) -> tuple[tuple[int, ...], str]:
    return static_shape(value), dtype_name(value)


def _told(value: ir.Value) -> str:
    return f"{dtype_name(value)} of shape {list(static_shape(value))}"


def _invalid(what: str, hint: str) -> EdgepruneError:
    return EdgepruneError("state-invalid", what, where="--state", hint=hint, exit_code=2)
