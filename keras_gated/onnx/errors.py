"""The exporter's error class, and a helper that imports optional packages."""

from importlib import import_module
from types import ModuleType

from keras_gated.installation import install_hint


class ExportError(RuntimeError):
    """Raised if a model cannot be exported, or if its ONNX file computes something else."""


def require(*names: str) -> list[ModuleType]:
    """Imports the packages that the exporter needs, and returns their modules.

    Args:
        names: dotted names of modules, e.g. "onnx".

    Raises:
        ImportError: if one is missing. The message holds the command that installs it.
    """
    modules = []
    for name in names:
        try:
            modules.append(import_module(name))
        except ImportError as error:
            raise ImportError(
                f"The ONNX export needs the package {name.split('.')[0]!r}, which cannot be "
                f"imported ({error}). Install it with {install_hint('onnx')}."
            ) from error
    return modules
