"""Elementwise arithmetic, layout changes and channel moves."""
