"""How a model leaves as ONNX and is checked; imports nothing heavy by itself."""
