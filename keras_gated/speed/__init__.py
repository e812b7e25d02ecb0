"""Measures how long layers take: training steps, inference, and their ONNX files."""
