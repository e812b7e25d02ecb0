"""Imported by each example: if a package is missing, one line says what to install."""

import sys


def explain(kind, error, traceback):
    """Prints an error: of an import its message and what to install, of others the traceback."""
    if not issubclass(kind, ImportError):
        return sys.__excepthook__(kind, error, traceback)
    if "pip install" not in str(error):
        error = f'{error}. Install what the examples need, in the clone: pip install ".[examples]"'
    print(error, file=sys.stderr)


sys.excepthook = explain
