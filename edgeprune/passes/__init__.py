"""Rewrites of the IR, one a file."""
