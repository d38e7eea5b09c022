"""Prune a trained model in the pattern its device can skip, compile it, and measure it there."""

__version__ = "0.1.0"
