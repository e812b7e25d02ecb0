"""Keras models as ONNX files: export, check, stream, quantise.

The public functions are `export_onnx`, `export_streaming`, `check_onnx` and `quantize_onnx`. An
export goes through three stages, each in a folder of its own:

1. `tracing`: TensorFlow records the model's graph. Each recurrent layer becomes one placeholder
   node in it, a stub.
2. `graph`: tf2onnx converts the recorded graph to ONNX. Each stub is replaced with an LSTM, GRU,
   RNN or Scan node and the layer's weights. The graph is cleaned up and checked.
3. `verify`: the file runs in onnxruntime on random inputs and is compared with the Keras model.

Importing this folder loads nothing heavy: onnx, onnxruntime and tf2onnx are imported when needed.
"""
