"""Programs that keep states between runs: as ONNX Runtime fed by hand, on this machine and on an emulated one."""

from __future__ import annotations

import ctypes

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from library_runner import Context, build, load
from remembering import fed_by_hand, recurrent, swapped, texts, window

from edgeprune.chip import load_chip
from edgeprune.deploy.mailbox_runner import MailboxRunner
from edgeprune.deploy.unicorn_board import UnicornBoard
from edgeprune.firmware.link import link_firmware
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.states import with_states
from edgeprune.lowering.build import build as build_all
from edgeprune.lowering.lower import lower
from edgeprune.road.twin import twin_target
from edgeprune.target import Target, load_target

ONE, OTHER = (0.05, 3), (0.04, -5)
MODELS = {
    "lstm": (recurrent("LSTM"), {"h": "hn", "c": "cn"}),
    "gru": (recurrent("GRU"), {"h": "hn"}),
    "window": (window(), {"past": "past_next"}),
    "swapped": (swapped(), {"a": "b_next", "b": "a_next"}),
    "window of integers": (window(ONE, ONE), {"past": "past_next"}),
    "window on two grids": (window(ONE, OTHER), {"past": "past_next"}),
    "window that comes out real": (window(ONE), {"past": "past_next"}),
}


def lowered(name: str, target: Target):
    proto, states = MODELS[name]
    return lower(with_states(canonicalize(ir.from_proto(proto)), texts(states)), target)


def rows_of(proto: onnx.ModelProto, count: int = 9) -> np.ndarray:
    (port,) = [port for port in proto.graph.input if port.name == "x"]
    shape = [axis.dim_value for axis in port.type.tensor_type.shape.dim]
    return np.random.default_rng(4).normal(0, 1, (count, *shape)).astype(np.float32)


def tolerance(name: str) -> float:
    """Integers may be rounded another way where a sum is in the middle between two."""
    return ONE[0] if "window " in name else 1e-5


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_each_run_goes_on_where_the_last_ended(name, threads):
    (proto, states), plan = MODELS[name], lowered(name, load_target("host"))
    rows = rows_of(proto)
    assert [port.name for port in plan.inputs] == ["x"] and [port.name for port in plan.outputs] == ["y"]
    library = load(build(plan, load_target("host")).so)
    wanted = fed_by_hand(proto, states, {"x": rows})["y"]
    one, other = (Context(library, plan.inputs, plan.outputs, threads) for _ in range(2))
    first = other.run({"x": rows[0]})["y"]
    for index, row in enumerate(rows):
        np.testing.assert_allclose(one.run({"x": row})["y"], wanted[index], atol=tolerance(name))
    np.testing.assert_allclose(other.run({"x": rows[1]})["y"], wanted[1], atol=tolerance(name))
    assert library.edge_reset(one.handle) == 0 and library.edge_reset(ctypes.c_void_p()) == 1
    np.testing.assert_array_equal(one.run({"x": rows[0]})["y"], first)
    one.close()
    other.close()


@pytest.mark.parametrize("name", MODELS)
def test_a_microcontroller_goes_on_where_it_ended(name):
    (proto, states), target = MODELS[name], load_target("cortex-m4")
    plan, rows = lowered(name, target), rows_of(proto)
    built, chip = build_all(plan, target), load_chip("emulated-m4")
    steps = [layer.name for layer in built.layers]
    header, facts = built.sources["edge_model.h"], {"arena_bytes": built.ram_bytes, "steps": steps, "keeps": True}
    firmware = link_firmware(built.library, header, chip, target, **facts)
    core = UnicornBoard(firmware.elf, chip)
    board = MailboxRunner(core, firmware.mailbox_address, firmware.model, take_regions=core.take_regions)
    for reset_every in (0, 4):
        wanted = fed_by_hand(proto, states, {"x": rows}, reset_every)["y"]
        found = board.run_rows({"x": rows}, reset_every=reset_every)["y"]
        np.testing.assert_allclose(found, wanted, atol=tolerance(name))
        if "grid" in name or "integers" in name:
            np.testing.assert_array_equal(found, on_twin(name, rows, reset_every))
    assert board.bench(0.0).instructions == board.bench(0.0).instructions


def on_twin(name: str, rows: np.ndarray, reset_every: int) -> np.ndarray:
    """The same on this machine, with the microcontroller's arithmetic."""
    target = twin_target(load_target("cortex-m4"))
    plan = lowered(name, target)
    context = Context(load(build(plan, target).so), plan.inputs, plan.outputs)
    found = []
    for index, row in enumerate(rows):
        if reset_every and index % reset_every == 0:
            assert context.library.edge_reset(context.handle) == 0
        found.append(context.run({"x": row})["y"])
    return np.stack(found)


@pytest.mark.parametrize(
    ("name", "copied"),
    [("window", [False]), ("lstm", [False, False]), ("swapped", [True, True]), ("window of integers", [False])],
)
def test_what_is_read_no_more_is_overwritten(name, copied):
    plan = lowered(name, load_target("cortex-m4"))
    assert [state.copied for state in plan.kept] == copied


def test_states_on_two_grids_are_held_in_real_numbers():
    held = {name: lowered(name, load_target("cortex-m4")).kept[0] for name in MODELS if "window " in name}
    stored = {name: (state.source.format.dtype, state.result.format.dtype) for name, state in held.items()}
    assert stored == {
        "window of integers": ("int8", "int8"),
        "window on two grids": ("float32", "float32"),
        "window that comes out real": ("int8", "int8"),
    }
    assert held["window of integers"].source.format.zero == ONE[1]
