"""The notebooks run from their first cell to the last, and hold no output."""

import json
import sys
from pathlib import Path
from types import ModuleType

import keras
import pytest

from tests import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
notebooks = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)


def cells(file: Path) -> list[dict]:
    return json.loads(file.read_text(encoding="utf-8"))["cells"]


@pytest.mark.long
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="they name their backend")
@notebooks
def test_a_notebook_runs(file, tmp_path, monkeypatch, capsys):
    ipython = ModuleType("IPython.display")  # which a notebook has, and a test need not
    ipython.SVG = lambda name: Path(name).read_text(encoding="utf-8")
    monkeypatch.setitem(sys.modules, "IPython.display", ipython)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    names: dict = {"__name__": "notebook"}
    for cell in cells(file):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), file.name, "exec"), names)
    printed = capsys.readouterr().out
    assert {"start.ipynb": "LSTM", "which_gate_can_go.ipynb": "weights, test"}[file.name] in printed


@notebooks
def test_a_notebook_holds_no_output_and_installs_the_clone_first(file):
    code = [cell for cell in cells(file) if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert 'f"{CLONE}[onnx,plot]"' in "".join(code[0]["source"])


def test_both_notebooks_are_listed():
    assert [file.name for file in NOTEBOOKS] == ["start.ipynb", "which_gate_can_go.ipynb"]
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert all(f"(../notebooks/{file.name})" in text for file in NOTEBOOKS)
