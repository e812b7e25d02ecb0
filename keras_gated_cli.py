"""The program keras-gated. It reads the command line before Keras is imported.

`import keras_gated` imports Keras, which takes seconds, and Keras chooses its backend at that
moment. Most commands need no Keras, and the others need a backend of their own. So this module is
outside the package: it lets `keras_gated.cli` be imported first, and that imports Keras for the
commands that need it (keras_gated/cli/import_keras.py).
"""

import sys
from importlib.util import find_spec, module_from_spec


def main() -> int:
    """Runs keras-gated on the arguments of the process. Returns the exit status."""
    defer_package()
    from keras_gated.cli.main import main

    return main()


def defer_package() -> None:
    """Makes the modules of keras_gated importable before its `__init__.py` has run.

    Python imports a module's package first. It takes the package from `sys.modules` if that has it,
    so an entry there stands for the package until `import_keras` runs its `__init__.py`.
    """
    if "keras_gated" not in sys.modules and (spec := find_spec("keras_gated")):
        sys.modules["keras_gated"] = module_from_spec(spec)


if __name__ == "__main__":
    sys.exit(main())
