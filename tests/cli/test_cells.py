"""keras-gated list, show, diff, budget and doctor: what they print and end with."""

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest

import keras_gated as kg
import keras_gated_cli
from keras_gated.cli import cells as commands
from keras_gated.cli.main import main
from tests import ROOT
from tests.helpers import says

PROGRAM = ROOT / "keras_gated_cli.py"


def reported(capsys, *arguments: str, status: int = 0) -> dict:
    """The JSON that a command prints."""
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


@pytest.mark.catalogue
def test_every_preset_is_listed_with_its_counts(capsys):
    found = reported(capsys, "list", "--inputs", "5", "--units", "3")["cells"]
    assert [cell["name"] for cell in found] == list(kg.presets)
    uncounted = [cell["name"] for cell in found if cell["parameters"] is None]
    for name in uncounted:  # they see each input one to one
        with pytest.raises(ValueError, match="`units`.*units=3, input features=5"):
            kg.count_parameters(name, input_dim=5, units=3)
    for cell in found:
        if cell["name"] not in uncounted:
            assert cell["parameters"] == kg.count_parameters(cell["name"], input_dim=5, units=3)
            assert cell["flops"] == kg.count_flops(cell["name"], input_dim=5, units=3)
    assert 0 < len(uncounted) < 12
    operators = {cell["name"]: cell["onnx"] for cell in found}
    assert operators["lstm"] == "LSTM" and operators["gru"] == "GRU" and operators["fgr"] == "Scan"


def test_filters_leave_what_was_asked_for(capsys):
    every = reported(capsys, "list")["cells"]
    limit = sorted(cell["parameters"] for cell in every)[20]
    given = {"family": ["--family", "slim"], "states": ["--states", "1"]}
    given["parameters"] = ["--parameters", str(limit)]
    keep = {
        "family": lambda cell: cell["family"] == "slim",
        "states": lambda cell: len(cell["states"]) == 1,
        "parameters": lambda cell: cell["parameters"] <= limit,
    }
    for name, arguments in given.items():
        found = [cell["name"] for cell in reported(capsys, "list", *arguments)["cells"]]
        assert found == [cell["name"] for cell in every if keep[name](cell)]
        assert 0 < len(found) < len(every)


def test_a_table_for_people(capsys):
    assert main(["list", "--family", "slim"]) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("│ slim_lstm6 ")]
    assert len(rows) == 1 and "three constant gates" in rows[0] and "8,256" in rows[0]
    assert "64 inputs, 64 units" in printed


def test_show_is_describe(capsys):
    assert main(["show", "mgu", "--inputs", "8", "--units", "4"]) == 0
    assert capsys.readouterr().out.rstrip() == kg.describe("mgu", input_dim=8, units=4)
    assert main(["show", "mgu"]) == 0
    assert capsys.readouterr().out.rstrip() == kg.describe("mgu")
    found = reported(capsys, "show", "mgu", "--inputs", "8", "--units", "4")
    assert found["parameters"] == 104 and found["equations"] == kg.equations("mgu")


def test_diff_and_budget(capsys):
    assert main(["diff", "lstm", "cifg"]) == 0
    assert capsys.readouterr().out.rstrip() == str(kg.diff("lstm", "cifg"))
    found = reported(capsys, "budget", "gru", "--parameters", "18000", "--inputs", "88")
    assert found["units"] == kg.units_for_budget("gru", 88, 18_000)
    assert found["parameters"] == kg.count_parameters("gru", 88, found["units"]) <= 18_000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["show", "mgru"], "spec='mgru'...Did you mean"),
        (["diff", "lstm", "lstn"], "spec='lstn'...'lstm'"),
        (["budget", "gru", "--parameters", "5", "--inputs", "88"], "`parameters`...parameters=5"),
    ],
)
def test_errors_are_one_line_and_status_1(arguments, text, capsys):
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and says(printed.err, text) and printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["list", "--family", "slime"], "invalid choice: 'slime'"),
        (["list", "--units", "0"], "argument --units: invalid number > 0 value: '0'"),
        (["budget", "gru"], "required: --parameters, --inputs"),
    ],
)
def test_wrong_usage_is_status_2(arguments, text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and text in capsys.readouterr().err


def test_the_doctor_tells_versions_and_finds_no_fault_here(capsys):
    found = reported(capsys, "doctor")
    versions = {package["name"]: package["installed"] for package in found["packages"]}
    assert versions["keras"] == importlib.metadata.version("keras")
    assert found["problems"] == [] and "onnx" in versions
    by_name = {package["name"]: package for package in found["packages"]}
    assert "onnx" in by_name["tf2onnx"]["extra"].split(", ") and by_name["keras"]["extra"] == ""


def test_the_doctor_names_what_clashes(capsys, monkeypatch):
    version = commands._version
    given = {"tf2onnx": "1.16.1", "onnxruntime": None, "keras": "3.4.0"}
    monkeypatch.setattr(commands, "_version", lambda name: given.get(name, version(name)))
    monkeypatch.setattr(commands, "BACKENDS", ["no_such_backend"])
    found = reported(capsys, "doctor", status=1)
    assert len(found["problems"]) == 3
    text = " ".join(found["problems"])
    assert "keras 3.4.0: keras_gated needs keras>=3.15" in text
    assert "tf2onnx 1.16.1: keras_gated needs tf2onnx<1.18,>=1.17 for [" in text
    assert "no backend here that trains" in text and "onnxruntime" not in text


@pytest.mark.long
@pytest.mark.parametrize("package", keras_gated_cli.BACKENDS)
def test_the_program_tells_of_cells_on_any_backend(package):
    """Even if Keras is set to another."""
    pytest.importorskip(package)
    name = keras_gated_cli.BACKENDS[package]
    code = (
        "import sys, keras_gated_cli as cli; sys.argv = ['keras-gated', 'show', 'gru'];"
        f"cli.BACKENDS = {{{package!r}: {name!r}}}; status = cli.main();"
        f"import keras; assert keras.backend.backend() == {name!r}; sys.exit(status)"
    )
    other = "torch" if name == "tensorflow" else "tensorflow"
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parent), "KERAS_BACKEND": other}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.rstrip() == kg.describe("gru")


def test_without_any_backend_the_program_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(keras_gated_cli, "BACKENDS", {"no_such_package": "numpy"})
    assert keras_gated_cli.main() == 1
    assert says(capsys.readouterr().err, "no_such_package...none...pip install")


def test_what_works_on_models_runs_on_tensorflow():
    assert {keras_gated_cli.backend(name) for name in ("export", "check")} == {"tensorflow"}


@pytest.mark.long
def test_a_layer_on_a_backend_that_trains_nothing_is_an_error():
    pytest.importorskip("jax")  # Keras's NumPy backend needs it
    code = "import keras_gated as kg, numpy as np; kg.GatedLSTM(2)(np.zeros((1, 3, 2), 'float32'))"
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert ran.returncode == 1
    assert says(ran.stderr, "tensorflow, jax...torch...Received: 'numpy'")
