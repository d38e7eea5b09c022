"""Presets of the fields where this is used, a TOML table each."""
