"""IR to a program of compiled kernels: layout, kernels, memory, C."""
