"""The program keras-gated: names Keras's backend and hands over to keras_gated.cli.main.

It stands beside the package because Keras reads its backend once, when it is imported, and any
module within the package imports Keras first. From here one process does, with one import.
"""

import importlib.util
import os
import sys

ON_MODELS = ("export", "check")
AS_SET = ("bench",)  # speed is asked for where models are trained: on Keras's own setting
# Package -> the backend of Keras that it allows, the quickest to load first: on NumPy, for which
# Keras borrows a function from JAX, cells can be told of though not trained.
BACKENDS = {"jax": "numpy", "torch": "torch", "tensorflow": "tensorflow"}


def backend(command: str | None) -> str | None:
    """The one to run a command on; None if Keras has none to be imported with."""
    if command in ON_MODELS:
        return "tensorflow"
    found = (name for package, name in BACKENDS.items() if importlib.util.find_spec(package))
    return next(found, None)


def main() -> int:
    """Runs keras-gated; each command on the backend that suits it, those in AS_SET on Keras's."""
    command = next(iter(sys.argv[1:]), None)
    if (chosen := backend(command)) is None:
        print(
            f"keras-gated needs one of the packages {', '.join(BACKENDS)}, and none is installed. "
            'Install one, for example with: pip install "keras-gated[tensorflow]"',
            file=sys.stderr,
        )
        return 1
    if command not in AS_SET:
        # On the CPU, where onnxruntime compares: graphics cards round float32 products.
        os.environ |= {"KERAS_BACKEND": chosen, "CUDA_VISIBLE_DEVICES": "-1"}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from keras_gated.cli.main import main
    except ModuleNotFoundError as error:
        if (missing := str(error.name).partition(".")[0]) not in BACKENDS:
            raise
        print(
            f"keras-gated: error: Keras is set to a backend whose package {missing} is not "
            "installed. Name one that is in the variable KERAS_BACKEND.",
            file=sys.stderr,
        )
        return 1
    return main()


if __name__ == "__main__":
    sys.exit(main())
