"""A model as an ONNX file: export, check, stream, int8. Imports nothing heavy by itself."""
