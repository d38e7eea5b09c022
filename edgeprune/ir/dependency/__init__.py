"""Which weights have to be removed together."""

from edgeprune.ir.dependency.groups import Group, Groups, UnitSlice, Unresolved, find_groups

__all__ = ["Group", "Groups", "UnitSlice", "Unresolved", "find_groups"]
