"""Imports Keras for the commands that run models: on their backend, without TensorFlow's log."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import reload
from importlib.util import find_spec

from keras_gated.installation import install_hint

# On the processor, where onnxruntime compares: graphics cards round float32 products.
FOR_EXPORT = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
# A line that TensorFlow's compiled code writes, e.g. "I0000 00:00:17.9  4848 port.cc:153] oneDNN",
# with the first letter of its level: information, warning, error.
LOG_LINE = rb"[%b]\d{4} [\d:.]+ +\d+ \S+:\d+\] |WARNING: All log messages before absl::"


def import_keras_for_export() -> None:
    """Imports Keras with TensorFlow, which exports; see `import_keras`.

    Raises:
        ImportError: if TensorFlow is not installed.
    """
    if find_spec("tensorflow") is None:
        raise ImportError(
            "This command needs the package 'tensorflow', which is not installed. Install it and "
            f"what else an export needs with {install_hint('onnx')}."
        )
    import_keras(FOR_EXPORT)


def import_keras(settings: dict[str, str] | None = None) -> None:
    """Imports Keras and all of keras_gated, if the process has not done so.

    Args:
        settings: environment variables that are set before the import.

    Raises:
        ImportError: if the package of Keras's backend is not installed.
    """
    package = sys.modules["keras_gated"]
    if hasattr(package, "__version__"):
        return
    os.environ |= settings or {}
    with _quiet_tensorflow():
        reload(package)  # runs its __init__.py, which keras_gated_cli.py deferred


@contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's log off stderr while TensorFlow is imported, and later.

    TensorFlow leaves out what is below TF_CPP_MIN_LOG_LEVEL, but not while it is imported. So
    stderr goes to a file meanwhile, and to stderr without those lines.
    """
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.stderr is None or level not in ("1", "2", "3"):
        yield
        return
    unwanted = re.compile(LOG_LINE % b"IWE"[: int(level)])
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            os.write(2, b"".join(line for line in written if not unwanted.match(line)))
