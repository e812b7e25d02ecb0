"""What the export raises, and how it asks for packages that are not installed."""

from importlib import import_module
from types import ModuleType


class ExportError(RuntimeError):
    """Raised where a model cannot leave as ONNX, or where the file does not do what it does."""


def require(*names: str) -> list[ModuleType]:
    """Returns the modules called `names`, imported.

    Raises:
        ImportError: if one is missing, with the command that installs it.
    """
    modules = []
    for name in names:
        try:
            modules.append(import_module(name))
        except ImportError as error:
            raise ImportError(
                f"The ONNX export needs the package {name.split('.')[0]!r}, which cannot be "
                f'imported ({error}). Install it with: pip install "keras-gated[onnx]".'
            ) from error
    return modules
