"""The model as the road takes it up: what can never matter is gone, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeprune.passes.intervals import Removal, remove_dead

if TYPE_CHECKING:
    import onnx_ir as ir


def arrive(model: ir.Model) -> tuple[ir.Model, dict[str, Any]]:
    """`model` without dead channels and the like, and what `compile` and `prune` tell of it: nothing if all stays."""
    removal = remove_dead(model)
    return removal.model, {"removed": _told(removal)} if removal.changed else {}


def _told(removal: Removal) -> dict[str, Any]:
    """Channels that never change, by layer, with the multiply-accumulates of the whole model before and after."""
    shrunk = [layer for layer in removal.layers if layer.macs_after != layer.macs_before]
    return {
        "channels": removal.channels_removed,
        "macs_before": removal.macs_before,
        "macs_after": removal.macs_after,
        "clamps": len(removal.clamps),
        "layers": [
            {"name": layer.name, "channels_before": layer.channels_before, "channels_after": layer.channels_after}
            for layer in shrunk
        ],
    }
