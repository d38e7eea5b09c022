"""The intermediate representation: ONNX held as onnx_ir, and what is asked of it."""
