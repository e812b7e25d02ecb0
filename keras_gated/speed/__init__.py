"""How long layers take: training steps, inference, ONNX files."""
