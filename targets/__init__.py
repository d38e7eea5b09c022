"""One TOML file a target: facts on a chip, no code."""
