"""Marks of tests that need an optional package."""

import importlib.util

import pytest

needs_scipy = pytest.mark.skipif(importlib.util.find_spec("scipy") is None, reason="no scipy")


needs_sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="no scikit-learn"
)


needs_sktime = pytest.mark.skipif(
    importlib.util.find_spec("sktime") is None,
    reason="the vowels come with sktime, which is not installed",
)
