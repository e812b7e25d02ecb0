"""Which backend Keras would use, and what an import says if its package is missing."""

import json
import os
import subprocess
import sys
import tomllib

import keras
import pytest

from keras_gated import installation
from tests import ROOT
from tests.helpers import says
from tests.without import WITHOUT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.fixture
def only(monkeypatch, tmp_path):
    """Makes packages look installed, and Keras's folder empty."""
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def install(*names: str) -> None:
        monkeypatch.setattr(installation, "find_spec", lambda name: name in names or None)

    return install


def test_the_variable_comes_before_the_file_and_the_file_before_the_default(
    only, tmp_path, monkeypatch
):
    assert installation.keras_backend().name == "tensorflow"
    (tmp_path / "keras.json").write_text("{")  # Keras ignores a broken file
    assert installation.keras_backend().name == "tensorflow"
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "torch"}))
    backend = installation.keras_backend()
    assert backend.name == "torch" and str(tmp_path) in backend.source
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert installation.keras_backend().name == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "")  # as if it were not set
    assert installation.keras_backend().name == "torch"


@pytest.mark.parametrize(
    ("variable", "installed", "text"),
    [
        ("", ["jax"], "'tensorflow'...not installed: ...export KERAS_BACKEND=jax...here: jax)"),
        ("", ["jax", "torch"], "export KERAS_BACKEND=jax...here: jax, torch)...[tensorflow]"),
        ("", [], 'not installed: install tensorflow with pip install ".[tensorflow]"'),
        ("jax", ["torch"], "'jax' (the variable KERAS_BACKEND)...KERAS_BACKEND=torch...\".[jax]\""),
        ("numpy", ["torch"], "'numpy'...'jax' is not installed...KERAS_BACKEND=torch"),
        ("tf", ["torch"], "'tf'...tensorflow, jax, torch...KERAS_BACKEND=torch"),
    ],
)
def test_one_sentence_names_the_variable_and_the_cure(variable, installed, text, only, monkeypatch):
    only(*installed)
    monkeypatch.setenv("KERAS_BACKEND", variable)
    problem = installation.backend_problem()
    assert problem and says(problem, text)
    assert problem.count(". ") == 0 and problem.endswith(".") and "\n" not in problem


def test_nothing_is_said_of_a_backend_that_is_installed_or_of_another_package(only):
    only("tensorflow")
    assert installation.backend_problem() is None
    only("jax")
    assert installation.backend_problem("tensorflow.python") is not None
    assert installation.backend_problem("h5py") is None


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_hint_works_in_a_clone(extra):
    assert installation.install_hint(extra).startswith(f'pip install ".[{extra}]" ')


@pytest.mark.parametrize(
    ("missing", "error"),
    [
        (keras.backend.backend(), "ModuleNotFoundError: ...KERAS_BACKEND...not installed"),
        ("numpy", "ModuleNotFoundError: No module named 'numpy'"),  # not swallowed
    ],
)
def test_importing_without_the_backend_is_one_sentence(missing, error):
    code = WITHOUT.format(missing=(missing,)) + "import keras_gated"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": keras.backend.backend()}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.rstrip().splitlines()[-1]
    assert says(last, error) and last.startswith(error.partition(":")[0])
    if missing == keras.backend.backend():
        assert done.stderr.count("Traceback") == 1 and len(done.stderr.splitlines()) < 10
