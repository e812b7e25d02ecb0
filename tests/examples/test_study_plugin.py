"""Tasks and cells of a user's own file."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from study import comparison, plugin, protocol, tasks

import keras_gated as kg
from tests import ROOT
from tests.helpers import raises

EXAMPLE = ROOT / "examples" / "study_plugin.py"


@pytest.fixture(autouse=True)
def forgotten():
    """What a test registers is gone after it."""
    saved = [(d, dict(d)) for d in (kg.presets._by_name, tasks.TASKS, tasks.SETTINGS)]
    path = list(sys.path)
    yield
    for table, before in saved:
        table.clear()
        table.update(before)
    sys.path[:] = path
    plugin.load_plugin.cache_clear()
    tasks.load.cache_clear()


def options_of(arguments: list[str], monkeypatch) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["study.py", *arguments])
    parser = argparse.ArgumentParser()
    comparison.add_cell_options(parser, ["gru"], "lstm", ["digits"])
    return parser.parse_args()


def test_cells_and_tasks_of_the_example_can_be_chosen(monkeypatch):
    given = ["--plugin", str(EXAMPLE), "--cells", "lstm_light", "--tasks", "order"]
    options = options_of([*given, "--parameters", "500"], monkeypatch)
    options.out = Path("nowhere")
    plan = comparison.Comparison.of_equal_size("", options)
    light = plan.runs(1)[1]
    assert (light.task, light.cell, light.epochs) == ("order", "lstm_light", 40)
    assert json.loads(light.spec)["forget_gate"]["recurrent_kernel"] is None
    task = tasks.load("order")
    counts = [len(part.sequences) for part in (task.train, task.valid, task.test)]
    assert counts == [180, 60, 60] and task.input_dim == 2 and not task.each_step


def test_a_plugin_reads_the_folder_that_data_names(monkeypatch, tmp_path):
    for number in range(10):
        lines = [f"{number},{step}" for step in range(3 + number)]
        (tmp_path / f"{number % 2}_{number}.csv").write_text("\n".join(lines))
    options_of(["--plugin", str(EXAMPLE)], monkeypatch)
    task = tasks.load("order", tmp_path)
    parts = task.train, task.valid, task.test
    pairs = [pair for p in parts for pair in zip(p.sequences, p.targets, strict=True)]
    found = {int(x[0, 0]): (len(x), int(y)) for x, y in pairs}
    assert found == {n: (3 + n, n % 2) for n in range(10)}


def test_a_file_that_is_not_there_is_an_error_of_the_command_line(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        options_of(["--plugin", "nowhere.py"], monkeypatch)
    assert "--plugin must name a Python file. Received: " in capsys.readouterr().err


def add(read, **changed):
    given = {"score": plugin.nats, "outputs": 2, "unit": "nats"}
    plugin.add_task("own", read, **{**given, **changed})
    return tasks.load("own")


def parts_of(sequences, targets):
    return lambda folder: dict.fromkeys(plugin.PARTS, (sequences, targets))


X, Y = [np.ones((3, 2)), np.ones((5, 2))], np.array([0, 1])


def test_settings_of_a_task_are_those_of_its_runs():
    add(parts_of(X, Y), epochs=7, batch_size=3)
    found = protocol.settings("own")
    assert (found["epochs"], found["batch_size"], found["patience"]) == (7, 3, 12)
    raises(lambda: plugin.add_task("digits", None, score=0, outputs=1, unit=""), "'digits'")
    new = {"score": plugin.nats, "outputs": 2, "unit": "nats", "seed": 3}
    raises(lambda: plugin.add_task("new", None, **new), "among...Received: ['seed']")


@pytest.mark.parametrize(
    ("sequences", "targets", "message"),
    [
        ([], Y, "Received: 0 sequences"),
        ([np.ones(3), np.ones((5, 2))], Y, "wrong shape [(3,)]"),
        ([np.ones((3, 2)), np.ones((5, 1))], Y, "F [1, 2]"),
        ([np.ones((3, 2)), np.full((5, 2), np.nan)], Y, "finite numbers"),
        (X, Y[:1], "each of 2 sequences. Received: 1"),
        (X, [0, 1], "np.array"),
    ],
)
def test_data_that_do_not_fit_are_refused(sequences, targets, message):
    raises(lambda: add(parts_of(sequences, targets)), f"'train' of task 'own'...{message}")


def test_all_three_parts_are_needed():
    raises(lambda: add(lambda folder: {"train": (X, Y)}), "Received: ['train']")


def test_targets_for_each_step_and_split():
    each = [np.zeros((len(x), 1)) for x in X * 5]
    task = add(lambda folder: plugin.split(X * 5, each), score=plugin.squared_error, outputs=1)
    assert task.each_step and [len(p.sequences) for p in (task.train, task.valid)] == [6, 2]


def test_data_that_differ_between_processes_are_refused(tmp_path):
    drawn = np.random.default_rng()
    add(lambda folder: parts_of([x + drawn.random() for x in X], Y)(None))
    units, rates = {("own", "gru"): 2}, {("own", "gru"): 1e-3}
    plan = comparison.Comparison("", {"gru": "gru"}, "gru", units, {"own": {}}, rates)
    (run,) = plan.runs(1)
    tasks.load.cache_clear()
    (file := tmp_path / "empty.py").write_text("")
    raises(lambda: plugin.train_with(file, run, None), "Use a seed in...empty.py")


@pytest.mark.long
def test_a_study_of_the_example_runs_in_other_processes(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "long_memory.py"), "--out", str(tmp_path)]
    command += ["--plugin", str(EXAMPLE), "--tasks", "order", "--cells", "lstm_light"]
    command += ["--parameters", "300", "--smoke", "--engine", "cores"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    page = (tmp_path / "smoke" / "page.md").read_text()
    assert "--plugin " in page and "--tasks order --cells lstm_light" in page
    assert "| order | lstm_light |" in page
