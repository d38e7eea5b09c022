"""edge-run, the program that runs a compiled model on a board: its C source, and how it is built."""
