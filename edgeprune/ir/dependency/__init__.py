"""Which weights have to be removed together."""

from edgeprune.ir.dependency.groups import Group, Groups, Unresolved, find_groups
from edgeprune.ir.dependency.slices import UnitSlice

__all__ = ["Group", "Groups", "UnitSlice", "Unresolved", "find_groups"]
