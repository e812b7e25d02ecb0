"""Many models are evaluated and trained in one process: TensorFlow must not warn of that."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_retracing_warnings() -> Iterator[None]:
    """Silences TensorFlow's warning of retracing: it takes the models for one function."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
