"""What is written into the ONNX graph: recurrent operators, masks, scans; and its cleanup."""
