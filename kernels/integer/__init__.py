"""Convolution, linear and matrix products of integers: one template at any density."""
