"""Set before keras is imported: the backend. For every test: the seed.

Keras is imported by what needs it: pytest-xdist's own process, which runs no test, loads this too.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest  # noqa: E402 - the backend must be named before


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
