"""One rule for every operator that labels are traced through."""

from __future__ import annotations

from edgeprune.ir.dependency import conv, elementwise, movement, norm, product, recurrent
from edgeprune.ir.dependency.movement import MOVING
from edgeprune.ir.dependency.trace import Rule

RULES: dict[str, Rule] = {
    **conv.RULES,
    **elementwise.RULES,
    **movement.RULES,
    **norm.RULES,
    **product.RULES,
    **recurrent.RULES,
}

__all__ = ["MOVING", "RULES"]
