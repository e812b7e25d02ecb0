"""keras-gated doctor: what it finds installed, and what it says is wrong."""

import importlib.metadata
import json

import pytest

from keras_gated import installation
from keras_gated.cli import doctor
from keras_gated.cli.main import main
from tests.helpers import says


def reported(capsys, status: int = 0) -> dict:
    """The JSON that the command prints."""
    assert main(["doctor", "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_it_lists_versions_and_finds_no_fault_here(capsys):
    found = reported(capsys)
    versions = {package["name"]: package["installed"] for package in found["packages"]}
    assert versions["keras"] == importlib.metadata.version("keras")
    assert found["problems"] == [] and "onnx" in versions
    by_name = {package["name"]: package for package in found["packages"]}
    assert "onnx" in by_name["tf2onnx"]["extra"].split(", ") and by_name["keras"]["extra"] == ""


def test_it_names_versions_that_do_not_fit(capsys, monkeypatch):
    version = doctor._version
    given = {"tf2onnx": "1.16.1", "onnxruntime": None, "keras": "3.4.0"}
    monkeypatch.setattr(doctor, "_version", lambda name: given.get(name, version(name)))
    found = reported(capsys, status=1)
    assert len(found["problems"]) == 2
    text = " ".join(found["problems"])
    assert "keras 3.4.0: keras_gated needs keras>=3.14" in text
    assert "tf2onnx 1.16.1: keras_gated needs tf2onnx<1.18,>=1.17 for [" in text
    assert "onnxruntime" not in text


def test_it_shows_the_backend_that_keras_would_use(capsys, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setattr(installation, "find_spec", lambda name: name)
    assert main(["doctor"]) == 0
    assert "Keras's backend: torch (the variable KERAS_BACKEND)\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("backend", "installed", "text"),
    [
        ("torch", ["jax"], "'torch'...not installed...export KERAS_BACKEND=jax"),
        ("torch", [], "...'torch'...not installed: install torch with pip install \".[torch]\""),
        ("tf", ["jax"], "'tf'...Keras has only tensorflow, jax, torch...KERAS_BACKEND=jax"),
        ("numpy", ["jax"], "'numpy' cannot run the layers...KERAS_BACKEND"),
    ],
)
def test_it_says_what_to_do_about_the_backend(backend, installed, text, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr(installation, "find_spec", lambda name: name in installed or None)
    (problem,) = reported(capsys, status=1)["problems"]
    assert says(problem, text)
