"""Latency: timing, peers, profiles."""
