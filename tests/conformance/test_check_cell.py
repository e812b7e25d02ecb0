"""`check_cell` passes good cells, and names what is wrong with others, each with a planted fault.

A fault is a class of `faulty_cells`. `FAULTS` says which checks must fail for it, and no others
may, and what they say.
"""

import random
import re
from functools import partial

import keras
import numpy as np
import pytest
import your_own_cell

import keras_gated as kg
from keras_gated.conformance.check import CHECKS
from tests.faulty_cells import (
    Counts,
    EagerOnly,
    ForgetsArgument,
    ForgetsNumber,
    ForgetsState,
    MixesRows,
    NoConfig,
    Noisy,
    NotForXla,
    NotInOnnx,
    OneStateMore,
    Plain,
    Stops,
    Unread,
    Unregistered,
    Widens,
    WrongGradient,
    WrongSize,
)
from tests.helpers import raises

BACKEND = keras.backend.backend()
SIZES = {"input_dim": 2, "batch_size": 3, "time": 4}
tensorflow_only = pytest.mark.skipif(BACKEND != "tensorflow", reason="needs the TensorFlow backend")
# Made for every fault; those that compile or export only where a fault should be found by them.
EVERYWHERE = {
    "config",
    "shapes",
    "deterministic",
    "states",
    "rows",
    "causal",
    "masks",
    "trainable",
    "precision",
    "saving",
}


# Good cells -------------------------------------------------------------------------------------

GOOD = {
    "Keras's LSTM": lambda: keras.layers.LSTMCell(3),
    "lstm": lambda: kg.GatedCell(3, "lstm"),
    "gru": lambda: kg.GatedCell(3, "gru"),
    "the example's": lambda: your_own_cell.MultiplicativeLSTMCell(3),
}


def few(*values):
    """Run with all that is long: each check has another case that always runs."""
    return pytest.param(*values, marks=pytest.mark.long)


LEFT_OUT = {"tensorflow": set(), "jax": {"onnx"}, "torch": {"compiled", "onnx"}}


@pytest.mark.parametrize("name", ["gru", *(few(name) for name in GOOD if name != "gru")])
def test_a_good_cell_passes(name):
    report = kg.check_cell(GOOD[name](), **SIZES)
    assert report.passed, str(report)
    assert [check.name for check in report.checks] == list(CHECKS)
    skipped = {check.name for check in report.checks if check.outcome == "skipped"}
    assert skipped == LEFT_OUT[BACKEND] and not report.failures
    assert re.match(rf"\w+: passed on {BACKEND} at tolerance 1.0e-05, seed 0: 15 ch", str(report))


# Faults -----------------------------------------------------------------------------------------


def only(backends, *fault):
    """A fault that there is on some backends alone."""
    other_backend = pytest.mark.skipif(BACKEND not in backends, reason=f"on {backends} only")
    return pytest.param(*fault, marks=other_backend)


NOTHING = "gets (no gradient: the outputs do not depend on it|a gradient of zero)"
# A cell, or what makes one, and by check that must fail what it must say.
FAULTS = [
    (ForgetsArgument(leak=0.5), {"config": "attribute 'leak' is 1.0, before it was 0.5: get_conf"}),
    (
        partial(ForgetsArgument, leak=0.5),
        {
            "config": "attribute 'leak' is 1.0, before it was 0.5: get_config must hold",
            "saving": "the one loaded from its file differ: outputs by .*, first at row 0, time",
        },
    ),
    (
        ForgetsNumber,
        {
            "config": "the cell and its copy by config differ with the same weights: outputs by",
            "saving": "the one loaded from its file differ: outputs by .*, first at row 0, time",
        },
    ),
    (ForgetsNumber(), {"saving": "the model and the one loaded from its file differ: outputs by"}),
    (
        NoConfig(3),
        {"config": r"from_config\(get_config\(\)\) raises TypeError: .*missing .*'units'"},
    ),
    (
        partial(NoConfig, 3),
        {
            "config": r"from_config\(get_config\(\)\) raises TypeError: .*missing .*'units'",
            "saving": "raises TypeError: .*missing .*'units'",
            "bidirectional": "raises TypeError: .*missing .*'units'",
        },
    ),
    (
        Unregistered,
        {
            "saving": "raises TypeError: Could not locate class 'Local'",
            "bidirectional": "raises TypeError: Could not locate class 'Local'",
        },
    ),
    (WrongSize, {"shapes": r"state 0 of a step has shape \(3, 6\); `state_size` says \(3, 3\)"}),
    (OneStateMore, {"shapes": "a step returns 2 states; `state_size` has 1"}),
    (
        Counts,
        {"deterministic": "training=False differ: outputs by .*, first at row 0, time step 0"},
    ),
    only(
        ("tensorflow", "torch"),  # JAX refuses it
        Noisy,
        {"deterministic": "training=False differ: outputs by .*, first at row 0, time step 0"},
    ),
    (ForgetsState, {"states": r"the cell does not read states\[0\]"}),
    (
        MixesRows,
        {
            "rows": "other rows change with the inputs of row 0: outputs by .*, first at row 0",
            "masks": "a row changes with the mask of another: outputs by",
        },
    ),
    (Stops, {"trainable": f"recurrent_kernel {NOTHING}"}),
    (Unread, {"trainable": f"peephole {NOTHING}"}),
    (Widens, {"precision": "state 0 is float32 and not float16 after time step 0 under mixed_flo"}),
    (
        WrongGradient,
        {"gradients": "the gradient by .*/kernel is .* along a random direction; central diff"},
    ),
    only(("tensorflow",), EagerOnly, {"compiled": "does not run as graph: .*Error: .*"}),
    only(("tensorflow",), NotForXla, {"compiled": "does not run as XLA: .*Error: .*"}),
    only(("tensorflow",), NotInOnnx, {"onnx": "raises ExportError: .*have no ONNX form: Erfinv"}),
]


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("cell", "failing"), FAULTS)
def test_a_fault_is_named_by_its_check(cell, failing):
    report = kg.check_cell(cell, checks=EVERYWHERE | failing.keys(), **SIZES)
    found = {check.name: check.text for check in report.failures}
    assert found.keys() == failing.keys(), str(report)
    for name, sentence in failing.items():
        assert re.search(sentence, found[name]), found[name]
        assert found[name] in str(report)
    assert not report.passed and "FAILED on" in str(report)


def test_without_a_fault_the_same_checks_pass():
    report = kg.check_cell(Plain, checks=EVERYWHERE | {"bidirectional"}, **SIZES)
    assert report.passed, str(report)


@pytest.mark.skipif(BACKEND == "torch", reason="torch is not compiled")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("unrolled", "unrolled and looped differ: outputs by .*, first at row 0, time step"),
        ("compiled", "(graph|jit) and eager execution differ: outputs by .*, first at row 0"),
        ("causal", "earlier outputs change with the last input: outputs by"),
        ("states", "two halves and the whole differ: outputs by"),
    ],
)
def test_a_state_in_python_is_found_by_other_checks_too(name, sentence):
    (check,) = kg.check_cell(Counts, checks=name, **SIZES).checks
    assert check.outcome == "FAILED" and re.search(sentence, check.text), check.text


# The report -------------------------------------------------------------------------------------


def test_what_cannot_be_checked_is_told():
    report = kg.check_cell(NoConfig(3), checks=EVERYWHERE, **SIZES)
    assert {check.text for check in report.checks if check.outcome == "skipped"} == {
        "the cell cannot be copied by its config: pass a function that makes the cell"
    }
    assert not kg.check_cell(NoConfig(3), checks="masks", **SIZES).passed  # nothing was checked
    wrong = kg.check_cell(WrongSize, checks=("onnx", "shapes"), **SIZES)
    assert wrong.checks[-1].text == "not run, because 'shapes' failed"


def test_a_failure_raises_if_asked():
    raises(
        lambda: kg.check_cell(MixesRows, checks="rows", raise_on_failure=True, **SIZES),
        "MixesRows: FAILED on...rows   FAILED",
        kg.CellError,
    )
    assert kg.check_cell(Stops, checks="rows", raise_on_failure=True, **SIZES).passed


def test_the_seed_says_which_numbers():
    def reported(seed):
        return str(kg.check_cell(MixesRows, checks="rows", seed=seed, **SIZES))

    assert reported(1) == reported(1)
    assert reported(1).replace("seed 1", "seed 2") != reported(2)


def test_the_tolerance_counts():
    assert not kg.check_cell(MixesRows(), checks="rows", **SIZES).passed
    assert kg.check_cell(MixesRows(), checks="rows", tolerance=100.0, **SIZES).passed


def test_the_cell_and_the_defaults_stay_as_they_were():
    cell = Plain(3)
    state, policy = random.getstate(), keras.config.dtype_policy().name
    assert kg.check_cell(cell, checks=("config", "precision", "trainable"), **SIZES).passed
    assert not cell.built and cell.dtype_policy.name == "float32"
    assert random.getstate() == state and keras.config.dtype_policy().name == policy
    keras.layers.RNN(cell)(np.zeros((1, 2, 7), "float32"))
    before = cell.get_weights()
    assert kg.check_cell(cell, checks=("config", "trainable")).passed  # with its own 7 features
    for weight, same in zip(cell.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"cell": "lstm"}, "`cell`...recurrent cell...lstm"),
        ({"cell": keras.layers.Dense(3)}, "`cell`...recurrent cell...Dense"),
        ({"checks": ("mask",)}, "`checks`...'shapes'...mask"),
        ({"checks": ()}, "`checks`...'shapes'...checks=()"),
        ({"cell": kg.GatedCell}, "`cell`...GatedCell...lambda: MyCell(8)"),
        ({"batch_size": 1}, "`batch_size`...2...=1"),
        ({"time": 2.5}, "`time`...3...time=2.5"),
        ({"input_dim": 0}, "`input_dim`...1...=0"),
        ({"seed": -1}, "`seed`...0...seed=-1"),
        ({"tolerance": 0}, "`tolerance`...0...tolerance=0"),
        (
            {"cell": keras.layers.StackedRNNCells([keras.layers.LSTMCell(2)])},
            "`cell`...`state_size`...stack",
        ),
    ],
)
def test_errors(arguments, text):
    raises(lambda: kg.check_cell(**{"cell": Plain, **arguments}), text)


def test_statistics_of_a_normalisation_stay_positive():
    cell = kg.GatedCell(128, "lstm", batch_norm=True)
    assert kg.check_cell(cell, seed=1, checks=("deterministic", "rows")).passed


# The example ------------------------------------------------------------------------------------


@pytest.mark.long
@tensorflow_only
def test_the_example_runs(tmp_path, capsys):
    report = your_own_cell.main(["--smoke", "--out", str(tmp_path)])
    assert report.passed and report.cell == "MultiplicativeLSTMCell"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    printed = capsys.readouterr().out
    assert re.search(r"^own +Loop ", printed, re.M) and re.search(r"^inside +LSTM ", printed, re.M)
    assert str(report) in printed
