"""keras-gated bench: what it measures and prints. No test says how fast anything is."""

import json

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.cli import layer_times
from keras_gated.cli.main import main
from keras_gated.speed import adapters
from keras_gated.speed.onnx_runs import FORMS, onnx_runs
from keras_gated.speed.timing import interleaved, medians
from tests.helpers import assert_close

long = pytest.mark.long
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="of TensorFlow's own functions"
)
SIZES = ("--batch", "2", "--time", "4", "--inputs", "3", "--units", "5", "--seconds", "1")


def reported(capsys, *arguments: str) -> dict:
    """The JSON that the command prints."""
    assert main(["bench", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.long
@on_tensorflow
def test_every_layer_is_timed_and_compared_with_keras(capsys):
    found = reported(capsys, "cifg", *SIZES, "--onnx")
    size = {name: found[name] for name in ("batch", "time", "inputs", "units")}
    assert size == {"batch": 2, "time": 4, "inputs": 3, "units": 5}
    assert found["backend"] == keras.backend.backend() and found["device"] in ("CPU", "GPU")
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert list(layers) == ["keras LSTM", "keras GRU", "cifg"]
    for name, layer in layers.items():
        assert set(layer["onnx"]) == (set() if name in layer_times.KERAS else set(FORMS))
        assert all(median > 0 for median in layer["onnx"].values())
        for kind in ("train", "infer"):
            assert layer[kind] > 0
            assert layer["ratios"][kind] == {
                name: pytest.approx(layers[name][kind] / layer[kind]) for name in layer_times.KERAS
            }


def test_the_table_shows_milliseconds_and_how_many_times_as_fast(capsys, monkeypatch):
    # Seconds by layer and kind; a real run's are of no interest here.
    given = {"keras LSTM": (0.008, 0.003), "keras GRU": (0.006, 0.001), "mgu": (0.004, 0.002)}

    def known(runs, repeats, budget):
        assert {name for name, _ in runs} == set(given) and budget == 1
        return {key: given[key[0]][("train", "infer").index(key[1])] for key in runs}

    nothing = adapters.Contender(lambda: None, lambda: None)
    monkeypatch.setattr(layer_times, "make_contender", lambda *_: nothing)
    monkeypatch.setattr(layer_times, "medians", known)
    assert main(["bench", "mgu", *SIZES]) == 0
    printed = capsys.readouterr().out
    (row,) = (line for line in printed.splitlines() if line.startswith("│ mgu"))
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["mgu", "4", "2.00", "1.50", "2", "1.50", "0.50"]
    assert "batch 2, 4 time steps, 3 inputs, 5 units" in " ".join(printed.split())
    assert "ONNX" not in printed


def test_an_unknown_name_is_one_line_and_status_1(capsys):
    assert main(["bench", "lstm", "mgru"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert "Received: spec='mgru'" in printed.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "required: NAME"),
        (["lstm", "--batch", "0"], "--batch: invalid number > 0 value: '0'"),
    ],
)
def test_wrong_usage_is_status_2(arguments, text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    assert ended.value.code == 2 and text in capsys.readouterr().err


# What is timed


def test_turns_go_on_to_the_least_number_and_end_with_the_budget():
    order: list = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    assert len(list(interleaved(runs, repeats=50, budget=0.0, least=9))) == 9
    assert order == list("ab") * 9
    assert set(medians(runs, repeats=50, budget=0.0)) == {"a", "b"} and len(order) == 2 * (9 + 3)


@on_tensorflow
@pytest.mark.parametrize(
    "make", [kg.GatedGRU, *(pytest.param(m, marks=long) for m in (keras.layers.LSTM, kg.GatedLSTM))]
)
def test_a_training_step_is_the_gradient_by_all_weights(make):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x, weights = (rng.standard_normal((2, 4, n)).astype("float32") for n in (3, 5))
    layer = make(5, return_sequences=True)
    layer.build(x.shape)
    ready = adapters.make_contender(layer, tf.constant(x), tf.constant(weights))
    with tf.GradientTape() as tape:
        y = layer(x)
        loss = tf.reduce_sum(y * weights)
    expected = tape.gradient(loss, layer.trainable_variables)
    assert_close(ready.infer(), y, "xla", "outputs")
    for variable, mine, theirs in zip(
        layer.trainable_variables, ready.train(), expected, strict=True
    ):
        assert_close(mine, theirs, "xla", variable.path)
        assert np.abs(theirs).max() > 1e-3
    assert "HloModule" in ready.compile()


def test_on_a_backend_that_trains_nothing_it_says_so(monkeypatch):
    monkeypatch.setattr(adapters, "BACKEND", "numpy")
    with pytest.raises(ValueError, match="tensorflow, jax.* torch.*Received: 'numpy'"):
        adapters.make_contender(None, None, None)


@pytest.mark.long
@on_tensorflow
def test_in_onnx_each_form_that_the_cell_has(tmp_path):
    x = np.random.default_rng(0).standard_normal((2, 4, 3)).astype("float32")
    for name, forms in {"mgu": FORMS, "fgr": ("scan", "loop")}.items():
        layer = kg.GatedRNN(5, name, return_sequences=True)
        runs = onnx_runs(layer, x, tmp_path)
        assert tuple(runs) == forms
        for form, run in runs.items():
            (found,) = run()
            assert_close(found, layer(x), "keras float32", f"{name}, {form}")
