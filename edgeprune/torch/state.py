"""Whether a saved state belongs to a Pruner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune.errors import EdgepruneError

_PARTS = ("settings", "shapes", "done", "finished", "masks", "memory")


def check_state(state: Any, settings: Mapping[str, str], shapes: Mapping[str, list[int]]) -> None:
    """Raise EdgepruneError (state-mismatch) where `state` is none, or is of other layers or other options."""
    if not isinstance(state, Mapping) or any(part not in state for part in _PARTS):
        raise _mismatch("this is not the state of a Pruner", "give what pruner.state_dict() returned")
    missing = [name for name in shapes if name not in state["shapes"]]
    extra = [name for name in state["shapes"] if name not in shapes]
    if missing or extra:
        what = f"the model prunes '{missing[0]}', the state does not" if missing else ""
        raise _mismatch(what or f"the state prunes '{extra[0]}', the model does not", _ANOTHER_MODEL)
    for name, shape in shapes.items():
        if list(state["shapes"][name]) != shape:
            saved = "x".join(map(str, state["shapes"][name]))
            raise _mismatch(f"'{name}' is {'x'.join(map(str, shape))}, and {saved} in the state", _ANOTHER_MODEL)
    for key, value in settings.items():
        if state["settings"].get(key) != value:
            hint = "make the Pruner with the options that it was saved with"
            raise _mismatch(f"{key} is {value}, and {state['settings'].get(key)} in the state", hint)


_ANOTHER_MODEL = "the state was saved with another model: make the Pruner on the one that it was saved with"


def _mismatch(what: str, hint: str) -> EdgepruneError:
    return EdgepruneError("state-mismatch", what, where="load_state_dict", hint=hint)
