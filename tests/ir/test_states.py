"""States are noted on models, checked, and kept by the reference that runs them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from remembering import INPUTS, UNITS, fed_by_hand, recurrent, window

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.frontend.onnx import load_onnx
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.states import State, possible_states, state_specs, states_of, visible_specs, with_states
from edgeprune.ir.stream import Stream, with_held

LSTM = {"h": "hn", "c": "cn"}


def lstm() -> ir.Model:
    return canonicalize(ir.from_proto(recurrent("LSTM")))


def rows(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 1, (count, *shape)).astype(np.float32)


def test_states_stay_with_a_model_through_a_file_and_a_new_operator_set(tmp_path):
    noted = with_states(lstm(), ["c=cn", "h=hn"])
    assert states_of(noted) == (State("c", "cn"), State("h", "hn"))
    onnx.save(ir.to_proto(noted), tmp_path / "model.onnx")
    assert states_of(load_onnx(tmp_path / "model.onnx")) == states_of(noted)
    noted.graph.opset_imports[""] = 17
    assert states_of(canonicalize(noted)) == states_of(noted)


def test_what_could_be_a_state_is_told_by_shape_and_name():
    model = lstm()
    assert possible_states(model) == {"h": ("hn", "cn"), "c": ("cn", "hn")}
    noted = with_states(model, ["h=hn"])
    assert possible_states(noted) == {"c": ("cn",)}
    assert possible_states(with_states(noted, ["h=hn", "c=cn"])) == {}


def test_states_are_no_inputs_of_the_user(tmp_path):
    model = lstm()
    assert [spec.name for spec in visible_specs(model)] == ["x", "h", "c"]
    noted = with_states(model, ["h=hn"])
    assert [spec.name for spec in visible_specs(noted)] == ["x", "c"]
    assert [(spec.name, spec.shape) for spec in state_specs(noted)] == [("h", (1, 1, UNITS))]
    assert states_of(model) == () and states_of(with_states(noted, ["none"])) == ()
    assert with_states(noted, []) is noted


@pytest.mark.parametrize(
    ("texts", "what", "hint"),
    [
        (["h"], "'h' is no pair of an input and an output", "write IN=OUT, such as state=stateN"),
        (["=hn"], "'=hn' is no pair of an input and an output", "write IN=OUT, such as state=stateN"),
        (["hh=hn"], "the model has no input 'hh'", "did you mean h?"),
        (["h=hm"], "the model has no output 'hm'", "did you mean hn?"),
        (
            ["x=hn"],
            f"input 'x' is float32 of shape [2, 1, {INPUTS}], and output 'hn' float32 of shape [1, 1, {UNITS}]",
            "a state comes out as it goes in",
        ),
        (["h=hn", "h=cn"], "input 'h' is in two states", "name each once"),
        (["h=hn", "c=hn"], "output 'hn' is in two states", "name each once"),
        (["none", "h=hn"], "'none' stands beside a pair", "give pairs, or none alone"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(texts, what, hint):
    with pytest.raises(EdgepruneError) as caught:
        with_states(lstm(), texts)
    error = caught.value
    assert (error.code, error.what, error.where, error.exit_code) == ("state-invalid", what, "--state", 2)
    assert error.hint.startswith(hint)


def test_something_is_left_for_the_user():
    model = window()
    node = onnx.helper.make_node("Identity", ["past_next"], ["again"])
    model.graph.node.append(node)
    del model.graph.output[0]
    with pytest.raises(EdgepruneError) as caught:
        with_states(canonicalize(ir.from_proto(model)), ["past=past_next"])
    assert caught.value.what == "every output of the model would be a state"
    assert caught.value.hint == "an output must be left for the user"


@pytest.mark.parametrize("reset_every", [0, 1, 3])
def test_the_reference_keeps_states_as_if_fed_by_hand(reset_every):
    proto, x = recurrent("LSTM"), rows(7, 2, 1, INPUTS)
    model = with_states(lstm(), ["h=hn", "c=cn"])
    wanted = fed_by_hand(proto, LSTM, {"x": x}, reset_every)
    stream = Stream(model)
    samples = Samples({"x": x}, None, tuple(visible_specs(model)), reset_every)
    found = []
    for index in range(samples.count):
        if samples.begins(index):
            stream.reset()
        found.append(stream.run(samples.row(index)))
    assert set(found[0]) == {"y"}
    np.testing.assert_allclose(np.stack([row["y"] for row in found]), wanted["y"], atol=1e-6)
    held = with_held(model, samples)
    assert held.inputs["h"].shape == (7, 1, UNITS) and not held.inputs["h"][0].any()
    assert np.array_equal(held.inputs["c"][3], np.zeros((1, UNITS))) == (reset_every in (1, 3))
    assert held.row(4)["h"].shape == (1, 1, UNITS)


def test_rows_of_a_model_without_states_stay_as_they_are():
    samples = Samples({"x": rows(2, 2, 1, INPUTS)})
    assert with_held(lstm(), samples) is samples
    assert samples.spread(5) is samples and samples.spread(1).count == 1
