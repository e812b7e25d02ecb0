"""The GPU of Keras's backend, and the precision of its matrix products."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import keras

BACKEND = keras.backend.backend()
# Keras's dtype policy of each precision. TF32 rounds factors to 11 bits and sums in float32.
PRECISIONS = {"TF32": "float32", "bfloat16": "mixed_bfloat16", "float32": "float32"}


def gpu_name() -> str | None:
    """Returns the name of the GPU on which the backend computes; None if it has none."""
    if BACKEND == "jax":
        import jax

        return jax.devices()[0].device_kind if jax.default_backend() == "gpu" else None
    if BACKEND == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        details = tf.config.experimental.get_device_details(found[0]) if found else {}
        return details.get("device_name", "GPU") if found else None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def runtime_versions() -> str:
    """Returns the versions of CUDA and cuDNN that the backend reports."""
    if BACKEND == "jax":
        from jax.extend.backend import get_backend

        return ", ".join(get_backend().platform_version.split("\n"))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        build = tf.sysconfig.get_build_info()
        return ", ".join(f"{k} {build[k]}" for k in ("cuda_version", "cudnn_version") if k in build)
    import torch

    return f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Inside this context, layers are made and run in a precision, one of `PRECISIONS`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(PRECISIONS[name])
    try:
        with ExitStack() as within:
            within.enter_context(tf32(name != "float32"))
            if BACKEND == "torch" and name == "bfloat16":  # for torch's own layers
                within.enter_context(_autocast())
            yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Inside this context, float32 products use TF32 if the device has it, or (False) never."""
    before, switch = _tf32_switch()
    switch(on)
    try:
        yield
    finally:
        switch(before)


def _autocast():
    import torch

    return torch.autocast("cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16)


def _tf32_switch() -> tuple:
    """Whether TF32 is on, and a function that switches it."""
    if BACKEND == "tensorflow":
        from tensorflow import config

        return (
            config.experimental.tensor_float_32_execution_enabled(),
            config.experimental.enable_tensor_float_32_execution,
        )
    return _jax_switch() if BACKEND == "jax" else _torch_switch()


def _jax_switch() -> tuple:
    import jax

    # `update` holds for all threads; contenders are compiled in several. "default" would say the
    # same as None, but JAX's LSTM on cuDNN refuses it.
    def switch(on):
        jax.config.update("jax_default_matmul_precision", None if on else "highest")

    return jax.config.jax_default_matmul_precision in (None, "default"), switch


def _torch_switch() -> tuple:
    import torch

    # torch's older names: its compiler reads these, and raises if the newer ones are set.
    def switch(on):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.backends.cuda.matmul.allow_tf32, switch
