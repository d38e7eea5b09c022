"""Kernel families: each folder holds one TensorIR template, its variants, its packing and its plain reference."""
