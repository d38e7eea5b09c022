"""Quantization after training: float networks to eight bits."""
