"""What `inspect` says of a plain model's states."""

from __future__ import annotations

import onnx_ir as ir
from remembering import UNITS, recurrent

from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.states import with_states
from edgeprune.road.inspecting import inspect_model


def test_states_that_a_model_brings_and_those_it_could_have():
    model = canonicalize(ir.from_proto(recurrent("LSTM")))
    plain = inspect_model(model)
    kind = {"shape": [1, 1, UNITS], "dtype": "float32"}
    assert plain["states"] == []
    assert plain["possible_states"] == [
        {"name": "h", "results": ["hn", "cn"], **kind},
        {"name": "c", "results": ["cn", "hn"], **kind},
    ]
    noted = inspect_model(with_states(model, ["h=hn"]))
    assert noted["states"] == [{"name": "h", "result": "hn", **kind}]
    assert noted["possible_states"] == [{"name": "c", "results": ["cn"], **kind}]
