"""Convolution, linear and matrix products: one template at any density."""
