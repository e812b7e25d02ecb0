"""Tests of what a GPU computes; without one they are skipped.

    KERAS_BACKEND=jax python -m pytest tests/gpu

`KERAS_GATED_GPU_TESTS_ON=cpu` runs them on the CPU instead, which checks the tests themselves.
"""

import os
from contextlib import nullcontext

import pytest

# Several processes of pytest-xdist, and those that tests start, share the GPU's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
SWITCH = "KERAS_GATED_GPU_TESTS_ON"


@pytest.fixture(scope="session")
def device():
    """The name of the GPU, or "cpu" where the tests themselves are checked."""
    from benchmarks.gpu_device import BACKEND, gpu_name

    if os.environ.get(SWITCH) == "cpu":
        return "cpu"
    return gpu_name() or pytest.skip(
        f"{BACKEND} sees no GPU; {SWITCH}=cpu checks the tests themselves"
    )


@pytest.fixture(autouse=True)
def on_device(device):
    """Nothing runs without a GPU, and what torch makes is made there."""
    from benchmarks.gpu_device import BACKEND

    within = nullcontext()
    if BACKEND == "torch" and device != "cpu":
        import torch

        within = torch.device("cuda")
    with within:
        yield
