"""A compiled model as a C library for the user's own project, laid out as the tools of microcontrollers expect it."""
