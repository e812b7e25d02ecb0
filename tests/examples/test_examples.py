"""Every example is listed; those that no other test runs run as a user starts them, in short."""

import ast
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.docs.run_pages import assert_ignored, run_lines
from tests.without import WITHOUT

EXAMPLES = ROOT / "examples"
long = pytest.mark.long


def run_study(script: str, out: Path):
    """Runs a study in its short form; returns what it printed on stderr, and its folder."""
    need_data(script)
    command = [sys.executable, EXAMPLES / script, "--smoke", "--engine", "here", "--out", out]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert_written(out / "smoke")
    return ran.stderr, out / "smoke"


def need_data(script: str):
    if script not in ("long_memory.py", "speech_waveform.py"):
        pytest.importorskip("music21", reason="the chorales come with music21")


def assert_written(out: Path):
    figures = ("differences.svg", "curves.svg", "time.pdf", "ranks.svg")
    for name in ("page.md", "results.jsonl", *figures):
        assert (out / name).stat().st_size > 500


@long
@pytest.mark.parametrize(
    "script", ["ablation_study.py", "polyphonic_music.py", "speech_waveform.py"]
)
def test_a_study_runs_in_a_process_that_has_keras(script, tmp_path, monkeypatch):
    need_data(script)
    command = [str(EXAMPLES / script), "--smoke", "--engine", "here", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.syspath_prepend(EXAMPLES)
    runpy.run_path(command[0], run_name="__main__")
    assert_written(tmp_path / "smoke")


@long
def test_a_study_goes_on_where_it_was_stopped(tmp_path):
    _, folder = run_study("long_memory.py", tmp_path)
    remaining, again = (folder / "results.jsonl").read_text().splitlines()
    (folder / "results.jsonl").write_text(f"{remaining}\n{again[:99]}")  # killed while it wrote
    progress, _ = run_study("long_memory.py", tmp_path)
    assert "1/1" in progress
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert lines[0] == remaining and json.loads(lines[2])["test"] == json.loads(again)["test"]


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_a_missing_package_is_one_line_that_names_the_extra(script):
    if '__name__ == "__main__"' not in script.read_text(encoding="utf-8"):
        pytest.skip("not a script")
    code = WITHOUT.format(missing=("keras",)) + f"sys.path.insert(0, {str(EXAMPLES)!r})\n"
    code += f"import runpy\nrunpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and 'pip install ".[' in line


def test_every_example_is_listed_with_a_short_form():
    text = (EXAMPLES / "README.md").read_text()
    rows = re.findall(r"^\| \[(\w+\.py)\]\((\w+\.py)\) \|.*?\| `(.+?)` \|", text, re.MULTILINE)
    codes = {file.name: file.read_text() for file in EXAMPLES.glob("*.py")}
    scripts = {name for name, code in codes.items() if '__name__ == "__main__"' in code}
    assert scripts == {displayed for displayed, _, _ in rows} and len(rows) == len(scripts) >= 10
    for displayed, linked, command in rows:
        assert displayed == linked and command.startswith(f"python examples/{displayed}")
    for name, code in codes.items():
        assert name in text, f"examples/README.md does not name {name}"
        assert (name in scripts) == ("--smoke" in code), name


def commands() -> dict[str, list[str]]:
    """Returns the commands that examples name in their docstrings, by file."""
    found = {}
    for file in sorted(EXAMPLES.glob("*.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        lines = re.findall(r"^ +((?:pip|python|keras-gated) .*)$", text, re.MULTILINE)
        found |= {file.name: lines} if lines else {}
    return found


@pytest.mark.parametrize("file", commands())
def test_commands_in_docstrings_can_be_run(file):
    for line in commands()[file]:
        run_lines(line)


@pytest.mark.parametrize("file", sorted([*EXAMPLES.rglob("*.py"), ROOT / "benchmarks/__main__.py"]))
def test_git_ignores_what_a_script_writes_by_default(file):
    code = file.read_text(encoding="utf-8")
    for folder in re.findall(r'default=Path\("?([^")]*)"?\)', code):
        text = " ".join((ast.get_docstring(ast.parse(code)) or "").split())
        names = re.findall(r"\b\w+\.(?:keras|onnx|png)\b", text.partition("Writes ")[2])
        assert_ignored([(Path(folder) / name).as_posix() for name in names or ["a file"]])


def ran(script: str, folder: Path, *options: str) -> str:
    """What a script prints in its short form."""
    command = [sys.executable, EXAMPLES / script, "--smoke", "--out", folder, *options]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@long
def test_gates_are_inspected(tmp_path):
    printed = ran("inspect_gates.py", tmp_path)
    assert "half-life" in printed and "The input gate is open by" in printed
    for name in ("gates.png", "memory.png", "model.keras"):
        assert (tmp_path / name).stat().st_size > 5000


@long
def test_a_stream_is_fed(tmp_path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    printed = ran("streaming_onnx.py", tmp_path)
    for way in ("row by row", "in chunks", "all at once"):
        assert re.search(rf"│ {way} +│ +\d\.\de-\d\d │ +\d+\.\d │", printed), printed
    assert "A second session continued" in printed
    assert (tmp_path / "stream.onnx").stat().st_size > 5000


@long
def test_texts_are_packed():
    command = [sys.executable, EXAMPLES / "packed_text.py", "--smoke"]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.search(r"│ packed +│.*\n.*Packing saves", done.stdout, re.DOTALL), done.stdout
    assert "differ by" in done.stdout and "Without resets" in done.stdout


@long
def test_keras_lstm_is_replaced(tmp_path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    printed = ran("replace_keras_lstm.py", tmp_path)
    assert re.search(r"│ keras +│.*│ Loop +│", printed) and re.search(
        r"│ gated +│.*│ LSTM +│", printed
    )
    for name in ("keras.keras", "gated.keras", "loop.onnx", "native.onnx"):
        assert (tmp_path / name).stat().st_size > 5000


@long
@pytest.mark.parametrize("task", ["chorales", "tank"])
def test_a_model_is_made_smaller(task, tmp_path):
    if task == "chorales":
        pytest.importorskip("music21", reason="the chorales come with music21")
    printed = ran("slim_model.py", tmp_path, "--task", task)
    assert re.search(r"^loss .*\n^layer +part +becomes", printed, re.MULTILINE)
    assert "the model given" in printed and re.search(r"│ smaller +│", printed)
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir() if file.is_file()}
    # A file of a few dozen weights is mostly names of nodes.
    assert task == "tank" or sizes["model.onnx"] < sizes["given.onnx"]
    assert sizes["slim.keras"] > 5000
    assert min(sizes["report.png"], sizes["path.png"]) > 5000 and sizes["stream.onnx"] > 1000
