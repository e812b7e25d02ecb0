"""The examples in the docstrings of public names run as they stand."""

import doctest

import keras
import numpy as np
import pytest

import keras_gated as kg

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
RETURNED = ("Error", "Report", "Result")  # what a user gets from a function, and does not make
EXTRAS = {"from_torch": "torch", "plot_gates": "matplotlib", "plot_memory": "matplotlib"}
SLOW = ("slim", "gate_report", "check_cell")  # they train or compile many times
USED = [n for n in kg.__all__ if callable(getattr(kg, n)) and not n.endswith(RETURNED)]
LISTED = [pytest.param(k, marks=pytest.mark.long) if k in SLOW else k for k in USED]


def examples_of(name: str) -> doctest.DocTest:
    """The example of a public name, with Keras, NumPy and the package at hand."""
    given = {"keras": keras, "np": np, "kg": kg}
    text = getattr(kg, name).__doc__ or ""
    return doctest.DocTestParser().get_doctest(text, given, name, None, 0)


@pytest.mark.parametrize("name", LISTED)
def test_the_example_runs(name, tmp_path, monkeypatch):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    monkeypatch.chdir(tmp_path)
    test, said = examples_of(name), []
    assert test.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)
