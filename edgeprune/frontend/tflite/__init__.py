"""TensorFlow Lite models to the IR."""
