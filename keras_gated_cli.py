"""The program keras-gated: names Keras's backend and hands over to keras_gated.cli.

It stands beside the package because Keras reads its backend once, when it is imported, and any
module within the package imports Keras first. From here one process does, with one import.
"""

import os
import sys

ON_MODELS = ("export", "check")


def main() -> int:
    """Runs keras-gated; what works on models does so on TensorFlow, whatever Keras is set to."""
    # NumPy is there in a second, and enough to tell of cells.
    backend = "tensorflow" if {*ON_MODELS} & {*sys.argv[1:2]} else "numpy"
    # On the CPU, where onnxruntime compares: graphics cards round float32 products to fewer bits.
    os.environ |= {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1"}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_gated.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
