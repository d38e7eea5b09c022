"""Pruning inside a user's own training loop."""
