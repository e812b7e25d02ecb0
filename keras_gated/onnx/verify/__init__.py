"""Does the file do what the model does? Run in onnxruntime and compared."""
