"""What is installed here: the backend that Keras would use, and how to install what is missing.

Nothing here imports Keras, so it can also say why Keras cannot be imported.
"""

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")  # those that train; each is also its package's name
# Keras's other backends, and the packages that they need.
OTHER_BACKENDS = {"numpy": "jax", "openvino": "openvino"}


def install_hint(extra: str) -> str:
    """Returns the command that installs an extra of this package, and where to run it."""
    return f'pip install ".[{extra}]" in a clone of keras_gated'


@dataclass(frozen=True)
class KerasBackend:
    """The backend that Keras would use.

    Attributes:
        name: as Keras spells it, e.g. "tensorflow".
        source: what sets it, in words.
    """

    name: str
    source: str

    @property
    def package(self) -> str | None:
        """The package that Keras imports for it; None if Keras has no such backend."""
        return OTHER_BACKENDS.get(self.name, self.name if self.name in BACKENDS else None)


def keras_backend() -> KerasBackend:
    """Returns the backend that Keras would use in a new process that is started here.

    Keras looks at the variable KERAS_BACKEND first, then at its file keras.json.
    """
    if name := os.environ.get("KERAS_BACKEND"):
        return KerasBackend(name, "the variable KERAS_BACKEND")
    file = _keras_folder() / "keras.json"
    try:
        return KerasBackend(json.loads(file.read_text())["backend"], f"the file {file}")
    except (OSError, ValueError, KeyError, TypeError):
        return KerasBackend("tensorflow", "Keras's default")


def _keras_folder() -> Path:
    if folder := os.environ.get("KERAS_HOME"):
        return Path(folder).expanduser()
    home = Path.home()
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"  # noqa: S108 - as Keras


def installed_backends() -> list[str]:
    """Returns the backends of Keras that train and whose package is installed."""
    return [name for name in BACKENDS if find_spec(name)]


def backend_problem(missing: str | None = None) -> str | None:
    """Returns why Keras cannot run on its backend, and what to do; None if it can.

    Args:
        missing: a module that could not be imported. The answer is None if it is not the package
            of the backend.
    """
    backend = keras_backend()
    if missing and missing.partition(".")[0] != backend.package:
        return None
    if backend.package is None:
        known = ", ".join([*BACKENDS, *OTHER_BACKENDS])
        reason = f"{backend.source} names a backend {backend.name!r}, and Keras has only {known}"
    elif find_spec(backend.package) is None:
        reason = (
            f"Keras is set to the backend {backend.name!r} ({backend.source}), and the package "
            f"{backend.package!r} is not installed"
        )
    else:
        return None
    return f"{reason[0].upper()}{reason[1:]}: {_cure(backend)}."


def _cure(backend: KerasBackend) -> str:
    wanted = backend.package if backend.package in BACKENDS else BACKENDS[0]
    install = f"install {wanted} with {install_hint(wanted)}"
    if not (installed := installed_backends()):
        return install
    return (
        f"choose another backend with export KERAS_BACKEND={installed[0]} before Python starts "
        f"(installed here: {', '.join(installed)}), or {install}"
    )
