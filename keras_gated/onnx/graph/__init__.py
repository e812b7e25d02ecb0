"""Stage 2 of an export: the TensorFlow graph becomes ONNX; nodes and weights replace stubs."""
