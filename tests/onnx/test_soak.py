"""A few of the random models of tests/soak.py; `python -m tests.soak` runs many."""

import os

import pytest

from tests import soak
from tests.onnx.helpers import on_tensorflow

pytestmark = on_tensorflow
CASES = -(-int(os.environ.get("KERAS_GATED_RANDOM", 1)) // 4)  # one takes as long as four cells


@pytest.mark.long
@pytest.mark.parametrize("case", range(CASES))
def test_a_random_model(case):
    soak.run_case(case)


def test_consecutive_cases_run_in_one_process():
    assert list(soak.consecutive([0, 1, 2, 5, 7, 8])) == [(0, 3), (5, 1), (7, 2)]
    assert list(soak.consecutive([])) == []


@pytest.mark.long
def test_a_wrong_file_is_found(monkeypatch):
    monkeypatch.setattr("tests.onnx.helpers.run", lambda path, x: [0.0])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        soak.run_case(0)
