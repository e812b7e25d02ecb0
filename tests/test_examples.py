"""Every script of a study runs, as a user starts it, and leaves a page with its figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
long = pytest.mark.long


@pytest.mark.parametrize(
    "script",
    [
        "long_memory.py",
        pytest.param("ablation_study.py", marks=long),
        pytest.param("polyphonic_music.py", marks=long),
        pytest.param("speech_waveform.py", marks=long),
    ],
)
def test_it_runs_and_goes_on_where_it_was_stopped(script, tmp_path):
    if script not in ("long_memory.py", "speech_waveform.py"):
        pytest.importorskip("music21", reason="the chorales come with music21")
    command = [sys.executable, EXAMPLES / script, "--smoke", "--engine", "here", "--out", tmp_path]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    folder = tmp_path / "smoke"
    for name in ("page.md", "curves.png", "ranks.png", "results.jsonl"):
        assert (folder / name).stat().st_size > 500
    kept, again = (folder / "results.jsonl").read_text().splitlines()
    (folder / "results.jsonl").write_text(f"{kept}\n{again[:99]}")  # killed while it wrote
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0 and "1/1" in ran.stderr, ran.stderr
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert lines[0] == kept and json.loads(lines[2])["test"] == json.loads(again)["test"]


@long
def test_gates_are_inspected(tmp_path):
    command = [sys.executable, EXAMPLES / "inspect_gates.py", "--smoke", "--out", tmp_path]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert "half-life" in ran.stdout and "The input gate is open by" in ran.stdout
    for name in ("gates.png", "memory.png", "model.keras"):
        assert (tmp_path / name).stat().st_size > 5000
