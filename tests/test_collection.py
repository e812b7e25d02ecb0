"""Which tests are collected."""

from types import SimpleNamespace

import pytest

from tests import ROOT, conftest
from tests.backends import FILES

SWITCH = "KERAS_GATED_GPU_TESTS_ON"


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [
        (["tests"], True),
        ([], True),
        (["tests/layers", "tests/test_imports.py"], True),
        (["tests/gpu"], None),
        (["tests/layers", "tests/gpu/test_gpu_numbers.py::test_under_a_mask"], None),
    ],
)
def test_without_a_gpu_its_tests_are_left_out_unless_named(arguments, left_out, monkeypatch):
    monkeypatch.setattr(conftest, "has_gpu", lambda: False)
    monkeypatch.delenv(SWITCH, raising=False)
    config = SimpleNamespace(args=arguments, invocation_params=SimpleNamespace(dir=ROOT))
    assert conftest.pytest_ignore_collect(conftest.GPU, config) is left_out
    assert conftest.pytest_ignore_collect(ROOT / "tests" / "layers", config) is None
    monkeypatch.setenv(SWITCH, "cpu")
    assert conftest.pytest_ignore_collect(conftest.GPU, config) is None
    monkeypatch.delenv(SWITCH)
    monkeypatch.setattr(conftest, "has_gpu", lambda: True)
    assert conftest.pytest_ignore_collect(conftest.GPU, config) is None


def test_the_page_of_backends_names_files_that_exist():
    assert all((ROOT / "tests" / f"{name}.py").is_file() for name in FILES)
