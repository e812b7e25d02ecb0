"""Stage 3 of an export: an ONNX file runs in onnxruntime and is compared with the Keras model."""
