"""The program keras-gated as a process: what it imports, on which backend, and what it prints."""

import json
import os
import subprocess
import sys
from inspect import signature
from types import ModuleType

import pytest

import keras_gated as kg
from keras_gated.cli import import_keras, main, models
from tests import ROOT
from tests.helpers import says

HEAVY = ("keras", "tensorflow", "jax", "torch", "onnx", "onnxruntime")
PROGRAM = [sys.executable, str(ROOT / "keras_gated_cli.py")]
# Runs commands in one process; prints the heavy packages that it has imported by then.
RUN = f"""
import contextlib, io, sys
import keras_gated_cli
for arguments in {{commands!r}}:
    sys.argv = ["keras-gated", *arguments.split()]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        assert keras_gated_cli.main() == 0, arguments
print(*sorted(set({HEAVY!r}) & set(sys.modules)))
"""
COMMANDS = ("list", "show", "diff", "budget", "doctor", "export", "check", "gates", "slim", "bench")
LIGHT = ("list", "list --family slim --json", "diff lstm cifg", "budget gru 88 18000", "doctor")


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


@pytest.mark.parametrize(
    "commands",
    [
        ["--help", "--version", *(f"{name} --help" for name in COMMANDS)],
        [*LIGHT, *(f"show {name}" for name in kg.presets)],
    ],
    ids=["help", "presets"],
)
def test_help_and_the_commands_about_presets_import_nothing_heavy(commands):
    command = [sys.executable, "-c", RUN.format(commands=commands)]
    variables = environment(KERAS_BACKEND="tensorflow")
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [] and done.stderr == ""


def test_every_command_is_among_those(capsys):
    with pytest.raises(SystemExit):
        main.main(["--help"])
    listed = capsys.readouterr().out.partition("COMMAND\n")[2]
    names = [line.split()[0] for line in listed.splitlines() if line[:5].strip()]
    assert names == list(COMMANDS)


def test_presets_are_shown_whatever_keras_is_set_to():
    variables = environment(KERAS_BACKEND="no_such_backend")
    done = subprocess.run([*PROGRAM, "show", "gru"], capture_output=True, text=True, env=variables)
    assert done.returncode == 0 and done.stdout.rstrip() == kg.describe("gru")


def test_a_reader_that_has_seen_enough_is_no_error():
    with subprocess.Popen(
        [*PROGRAM, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_the_default_tolerance_is_that_of_check_onnx():
    assert models.TOLERANCE == signature(kg.check_onnx).parameters["tolerance"].default


# Loading Keras


@pytest.fixture
def deferred(monkeypatch):
    """As if Keras were not imported yet, and without importing it; returns the environment."""
    variables = {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "1"}
    monkeypatch.setattr(os, "environ", variables)
    monkeypatch.setitem(sys.modules, "keras_gated", ModuleType("keras_gated"))
    monkeypatch.setattr(import_keras, "reload", lambda package: package)
    return variables


def test_an_export_is_on_tensorflow_and_the_processor(deferred, monkeypatch):
    monkeypatch.setattr(import_keras, "find_spec", lambda name: name)
    import_keras.import_keras_for_export()
    assert deferred["KERAS_BACKEND"] == "tensorflow" and deferred["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_benchmark_is_on_the_backend_and_device_that_are_set(deferred):
    import_keras.import_keras()
    assert deferred.pop("TF_CPP_MIN_LOG_LEVEL") == "3"
    assert deferred["KERAS_BACKEND"] == "torch" and deferred["CUDA_VISIBLE_DEVICES"] == "1"


def test_keras_is_left_as_it_is_if_it_is_imported_already(monkeypatch):
    before = dict(os.environ)
    monkeypatch.setattr(import_keras, "reload", None)
    import_keras.import_keras(import_keras.FOR_EXPORT)
    assert dict(os.environ) == before


@pytest.mark.parametrize("command", ["export", "check"])
def test_without_tensorflow_the_extra_is_named(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "model.keras").touch()
    monkeypatch.setattr(import_keras, "find_spec", lambda name: None)
    assert main.main([command, str(tmp_path / "model.keras"), "out.onnx", "--json"]) == 1
    printed = capsys.readouterr()
    assert says(printed.err, "'tensorflow'...not installed...pip install \".[onnx]\"")
    assert printed.err.count("\n") == 1 and "KERAS_BACKEND" not in printed.err
    assert says(json.loads(printed.out)["error"], "[onnx]")


LINES = {
    "I": "I0000 00:00:1795791842.995861   22276 port.cc:153] oneDNN custom operations are on.\n",
    "W": "W0000 00:00:1795791842.995861   22276 cuda.cc:15] no GPU\n",
    "E": "E0000 00:00:1795791842.995861   22276 cuda.cc:15] no driver\n",
    "absl": "WARNING: All log messages before absl::InitializeLog() is called are written to\n",
    "python": "a warning from Python\n",
}


@pytest.mark.parametrize(
    ("level", "printed"),
    [
        (None, ["python"]),
        ("3", ["python"]),
        ("2", ["E", "python"]),
        ("1", ["W", "E", "python"]),
        ("0", list(LINES)),
    ],
)
def test_tensorflow_is_quiet_while_it_is_imported_unless_asked(level, printed, deferred, capfd):
    if level is not None:
        deferred["TF_CPP_MIN_LOG_LEVEL"] = level
    with import_keras._quiet_tensorflow():
        os.write(2, "".join(LINES.values()).encode())
    assert capfd.readouterr().err == "".join(LINES[name] for name in printed)
    assert deferred["TF_CPP_MIN_LOG_LEVEL"] == (level or "3")


def test_what_was_printed_is_not_lost_if_the_import_fails(deferred, capfd):
    with pytest.raises(ImportError), import_keras._quiet_tensorflow():
        os.write(2, LINES["python"].encode())
        raise ImportError
    assert capfd.readouterr().err == LINES["python"]


@pytest.mark.long
def test_a_layer_on_a_backend_that_trains_nothing_is_an_error():
    pytest.importorskip("jax")  # Keras's NumPy backend needs it
    code = "import keras_gated as kg, numpy as np; kg.GatedLSTM(2)(np.zeros((1, 3, 2), 'float32'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(KERAS_BACKEND="numpy"),
    )
    assert done.returncode == 1
    assert says(done.stderr, "tensorflow, jax...torch...Received: 'numpy'")
