"""Exports a saved model in a process of its own, and prints the GPU that it saw.

python tests/gpu/exporting.py MODEL.keras MODEL.onnx
"""

import json
import sys

import keras

import keras_gated as kg
from benchmarks.gpu_device import gpu_name

if __name__ == "__main__":
    model = keras.models.load_model(sys.argv[1], compile=False)
    report = kg.export_onnx(model, sys.argv[2])
    print(json.dumps({"gpu": gpu_name(), "operators": dict(report.operators)}))
