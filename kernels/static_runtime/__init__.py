"""The C of a model that is a static library: no operating system, no allocation, no threads."""
