"""One TOML file a board: its target and how it is reached, no code."""
