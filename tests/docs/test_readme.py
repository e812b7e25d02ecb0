"""What the README shows runs as it stands there, and prints what it says."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest

import keras_gated as kg
from tests import ROOT
from tests.docs.run_pages import assert_ignored, run_page

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = (ROOT / "docs" / "guides" / "quickstart.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export runs on Keras's TensorFlow backend"
)


@pytest.mark.long
def test_every_block_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run_page(ROOT / "README.md")
    assert np.shape(names["y_t"]) == (1, 1) and isinstance(names["gated"].layers[0], kg.GatedLSTM)
    assert names["result"].model.count_params() < names["model"].count_params()
    files = {file.name for file in tmp_path.iterdir()}
    assert files == {"model.onnx", "stream.onnx", "model.int8.onnx", "slim.keras"}
    assert_ignored(sorted(files))
    onnx.checker.check_model(onnx.load("model.int8.onnx"))
    report, path = re.findall(r"^```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    printed = {fixed(line) for line in capsys.readouterr().out.splitlines()}
    lines = [line for line in report.splitlines() if line != "..."]
    # Which steps are accepted is decided by a run; the last line is of the full model.
    lines.append(path.splitlines()[-1])
    assert len(lines) > 7 and not [line for line in lines if fixed(line) not in printed]


def fixed(line: str) -> str:
    """Returns a line of a report without the numbers that a run decides."""
    return " ".join(re.sub(r"[-+]?[\d,]*\.\d+%?|\b\d+%|\(-\d+%\)", "", line).split())


def test_the_sizes_in_the_text_are_those_of_the_quickstart():
    """The page compares the weights of a layer with the numbers in the file."""
    ((in_file, trainable),) = re.findall(
        r"^recurrent +LSTM +([\d,]+) +([\d,]+)", QUICKSTART, re.MULTILINE
    )
    assert f"{in_file} numbers for a layer of {trainable} weights" in " ".join(QUICKSTART.split())


@pytest.mark.long
def test_the_quickstart_prints_what_its_page_shows(tmp_path):
    """Scores and seconds differ in the short form; sizes, nodes and names do not."""
    pytest.importorskip("music21", reason="the chorales come with music21")
    (displayed,) = re.findall(r"^```text\n(.*?)^```$", QUICKSTART, re.MULTILINE | re.DOTALL)
    script = ROOT / "examples" / "quickstart.py"
    command = [sys.executable, script, "--smoke", "--out", "."]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert stable(displayed) == stable(done.stdout)
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert set(sizes) == {"model.keras", "model.onnx", "curves.png"} and all(sizes.values())


def stable(output: str) -> list:
    """Returns the lines of the quickstart's output without what a run decides."""
    lines = output.splitlines()
    rows = [re.split(" *[│┃] *", line)[1:4] for line in lines if line[:1] in "│┃"]
    heads = [re.split(" *┃ *", line) for line in lines if line[:1] == "┃"]
    starts = ("inputs:", "nodes:", "recurrent", "layer ", "output ", "model.onnx: passed")
    same = [line.rstrip() for line in lines if line.startswith(starts)]
    compared = [re.sub(r"(\)) +\S+ +\S+$", r"\1", line) for line in lines if line[:6] == "logits"]
    assert rows and heads and same and compared
    return [rows, heads, same, compared]
