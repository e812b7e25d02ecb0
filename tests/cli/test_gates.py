"""The commands gates and slim: the files that they read and write, and what they print."""

import json
from inspect import signature
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.cli import gates
from keras_gated.cli.data_files import read_samples
from keras_gated.cli.main import main
from keras_gated.reduction.search import Search
from tests.helpers import raises, says

F, U = 2, 2


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a compiled model, and with data that it can learn."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(32, 6, F)).astype("float32")
    y = np.cumsum(x, axis=1) + np.random.default_rng(1).normal(size=x.shape)
    np.savez("data.npz", x=x, y=y.astype("float32"))
    sequences = keras.Input((None, F), name="x")
    h = keras.layers.LSTM(U, return_sequences=True, name="lstm")(sequences)
    model = keras.Model(sequences, keras.layers.Dense(F, name="y")(h))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, verbose=0)
    model.save("model.keras")
    return tmp_path


@pytest.mark.long
def test_gates(folder, capsys):
    pytest.importorskip("matplotlib")
    assert main(["gates", "model.keras", "--data", "data.npz", "--plot", "gates.png"]) == 0
    printed = capsys.readouterr().out
    assert says(printed, "loss ...layer...becomes...lstm...does not see h")
    assert printed.splitlines()[-1].startswith("keras-gated slim model.keras --train")
    assert Path("gates.png").stat().st_size > 5000
    assert main(["gates", "model.keras", "--data", "data.npz", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    model, first = keras.saving.load_model("model.keras"), report["rows"][0]
    assert report["parameters"] == model.count_params() and report["loss"] > 0
    data = np.load("data.npz")
    for row in report["rows"]:
        assert row["increase"] == pytest.approx(row["loss"] - report["loss"])
        if row["part"] == "forget":  # each row's changes are what reduce_gates takes
            smaller = kg.reduce_gates(model, row["changes"], data["x"])
            assert model.count_params() - smaller.count_params() == row["weights"]
    assert f"{first['loss']:.4f}" in printed.splitlines()[2]


@pytest.mark.long
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export in this process")
def test_slim_and_again(folder, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    command = "slim model.keras --train data.npz --validation data.npz --out out --export"
    command = [*command.split(), *"--tolerance 0.02 --epochs 1 --target bytes".split()]
    assert main([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert "weights, val_loss" in err and "control" in err
    assert len(result["path"]) > 1 and result["path"][0]["title"] == "the model given"
    assert all(point["value"] <= result["limit"] for point in result["path"])
    smallest = keras.saving.load_model("out/slim.keras")
    assert smallest.count_params() == result["path"][-1]["weights"]
    for kind in ("float32", "int8", "stream"):
        assert result["files"][kind]["bytes"] == Path(result["files"][kind]["path"]).stat().st_size
    assert {"search.json", "path.png", "model.onnx"} <= {f.name for f in Path("out").iterdir()}
    assert main(["check", "out/slim.keras", "out/model.onnx"]) == 0
    capsys.readouterr()

    def refuse(*_, **__):
        raise AssertionError("a step was trained again")

    monkeypatch.setattr(Search, "_train", refuse)
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert f"-> {result['path'][-1]['weights']:,} weights" in printed
    assert says(printed, "control...model: out/slim.keras...float32: out/model.onnx...bytes")
    assert main([*command, "--epochs", "2"]) == 1  # another search
    assert says(capsys.readouterr().err, "Argument `folder`...'out'...epochs")


def test_the_defaults_are_those_of_slim():
    parameters = signature(kg.slim).parameters
    assert {name: parameters[name].default for name in gates.DEFAULTS} == gates.DEFAULTS


def test_arrays_of_several_inputs_and_outputs(tmp_path):
    x, start = keras.Input((None, F), name="x"), keras.Input((U,), name="start")
    h = keras.layers.GRU(U, name="gru")(x, initial_state=start)
    outputs = [keras.layers.Dense(1, name=name)(h) for name in ("size", "kind")]
    model, file = keras.Model([x, start], outputs), tmp_path / "data.npz"
    arrays = {"start": np.ones((4, U)), "x": np.ones((4, 5, F))}
    arrays |= {"kind": np.ones(4), "size": np.zeros(4), "sample_weight": np.ones(4)}
    np.savez(file, **arrays)
    inputs, (size, kind), weights = read_samples(file, "--data", model)
    assert [a.shape for a in inputs] == [(4, 5, F), (4, U)] and weights.shape == (4,)
    assert size.sum() == 0 and kind.sum() == 4
    by_key = keras.Model({"x": x, "start": start}, outputs[0])
    np.savez(file, x=arrays["x"], start=arrays["start"], y=arrays["kind"])
    inputs, y = read_samples(file, "--data", by_key)
    assert inputs["start"].shape == (4, U) and y.shape == (4,)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x": (4, 5, F)}, "--data...arrays x, y...Received: ...with arrays x. ...y=..."),
        ({"x": (4, 5, F), "y": (4,), "sample_weights": (4,)}, "Received: ...sample_weights"),
        ({"x": (4, F), "y": (4,)}, "x of shape (any, any, 2)...with shape (4, 2)"),
        ({"x": (4, 5, F + 1), "y": (4,)}, "x of shape (any, any, 2)...with shape (4, 5, 3)"),
        ({"x": (4, 5, F), "y": (3,)}, "same number of rows...{'x': 4, 'y': 3}"),
        ({"x": (0, 5, F), "y": (0,)}, "at least one...{'x': 0, 'y': 0}"),
        ({}, "arrays x, y...'data.npz' without names"),
    ],
)
def test_arrays_that_do_not_fit(arrays, text, folder):
    np.savez("data.npz", **{name: np.ones(shape) for name, shape in arrays.items()})
    model = keras.saving.load_model("model.keras")
    raises(lambda: read_samples(Path("data.npz"), "--data", model), text)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("gates lost.keras --data data.npz", "no file 'lost.keras'"),
        ("gates model.keras --data lost.npz", "--data must be an .npy or .npz file...'lost.npz'"),
        ("gates model.keras --data x.npy", "--data...arrays x, y...'x.npy' without names"),
        ("gates model.keras --data data.npz --plot lost/a.png", "--plot...folder...'lost/a.png'"),
        ("gates raw.keras --data data.npz", "`model` must be compiled...model.compile"),
        ("slim model.keras --train x.npy --validation data.npz --out out", "--train"),
        ("slim model.keras --train data.npz --validation x.npy --out out", "--validation"),
        (
            "slim model.keras --train data.npz --validation data.npz --out out --tolerance -1",
            "`tolerance`...>= 0...tolerance=-1.0",
        ),
        (
            "slim model.keras --train data.npz --validation data.npz --out out --monitor val_acc",
            "`monitor` must be one of val_loss...'val_acc'",
        ),
    ],
)
def test_errors_are_one_line(arguments, text, folder, capsys):
    np.save("x.npy", np.ones((4, 5, F)))
    model = keras.saving.load_model("model.keras", compile=False)
    model.save("raw.keras")
    capsys.readouterr()
    assert main([*arguments.split(), "--json"]) == 1
    out, err = capsys.readouterr()
    assert says(err.splitlines()[-1], f"keras-gated: error: ...{text}")
    assert says(json.loads(out)["error"], text) and not Path("out/slim.keras").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("gates model.keras", "required: --data"),
        ("slim model.keras --train a --out b", "required: --validation"),
        ("slim m --train a --validation b --out c --target size", "invalid choice: 'size'"),
        ("slim m --train a --validation b --out c --epochs 0", "invalid number > 0 value: '0'"),
    ],
)
def test_wrong_usage(arguments, text, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 2 and text in capsys.readouterr().err


def test_a_subclassed_model_is_refused_with_the_reason(folder):
    class Own(keras.Model):
        pass

    raises(
        lambda: read_samples(Path("data.npz"), "--data", Own(name="own")),
        "MODEL.keras must be a Sequential or functional model...Own 'own'",
    )
