"""Set before keras is imported: the backend. For every test: the seed.

Keras is imported by what needs it: pytest-xdist's own process, which runs no test, loads this too.
"""

import gc
import os
import shutil
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest  # noqa: E402 - the backend must be named before

from tests import sampling  # noqa: E402

GPU = Path(__file__).parent / "gpu"


def pytest_ignore_collect(collection_path, config):
    """Leaves tests/gpu out, unless there is a GPU, the switch is set or it is an argument."""
    if collection_path != GPU or has_gpu() or "KERAS_GATED_GPU_TESTS_ON" in os.environ:
        return None
    folder = config.invocation_params.dir
    named = [(folder / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(GPU) for path in named) else True


def has_gpu() -> bool:
    """Whether an NVIDIA GPU seems to be here; cheap, and no backend is loaded."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


@pytest.hookimpl(tryfirst=True)  # before pytest drops what is long
def pytest_collection_modifyitems(config, items):
    """Of tests with many parameter sets that take long, a sample runs."""
    if sampling.applies(config):
        sampling.mark_rest(items)


def pytest_collection_finish():
    """Garbage is not looked for among what was imported: that takes half a second a file."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed():
    """Every test draws the same numbers, alone or among others."""
    import keras

    keras.utils.set_random_seed(20240917)


@pytest.fixture(autouse=True, scope="module")
def forget_traces():
    """Hundreds of small layers leave graphs behind: drop them file by file."""
    import keras

    yield
    keras.backend.clear_session()


@pytest.fixture
def traced_anew(monkeypatch):
    """For a test that changes the engine: nothing that was traced before is used."""
    from keras_gated.engine.backends.selected import backend

    for name in {"_function", "_functions"} & set(vars(backend)):
        monkeypatch.setattr(backend, name, getattr(backend, name).__wrapped__)
