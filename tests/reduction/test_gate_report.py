"""Each row says what the smaller model of that row gives, and the report changes nothing."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.reduction.survey import Surveyor

LAYERS = keras.layers
RNG = np.random.default_rng(3)
X = RNG.standard_normal((20, 7, 3)).astype("float32")
Y = RNG.standard_normal((20, 2)).astype("float32")


def compiled(*layers, **arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((None, 3)), *layers, LAYERS.Dense(2)])
    model.compile("sgd", "mse", **arguments)
    model.set_weights([0.6 * RNG.standard_normal(w.shape) for w in model.get_weights()])
    return model


def stateful():
    layers = [keras.Input((7, 3), batch_size=20), LAYERS.LSTM(4, stateful=True, name="a")]
    model = keras.Sequential([*layers, LAYERS.Dense(2)])
    model.compile("sgd", "mse")
    return model


MODELS = {
    "LSTM": lambda: compiled(LAYERS.LSTM(4, name="a")),
    "GRU, mask": lambda: compiled(LAYERS.Masking(), LAYERS.GRU(4, name="a")),
    "peephole": lambda: compiled(kg.GatedRNN(4, "lstm_peephole", name="a")),
    "no bias": lambda: compiled(kg.GatedLSTM(4, use_bias=False, name="a")),
    "MUT1": lambda: compiled(kg.GatedRNN(3, "mut1", name="a")),
    "two ways": lambda: compiled(LAYERS.Bidirectional(LAYERS.LSTM(3), name="b")),
    "projection": lambda: compiled(kg.GatedLSTM(4, projection_units=2, name="a")),
    "stateful": lambda: stateful(),
    "two layers": lambda: compiled(LAYERS.LSTM(4, return_sequences=True), LAYERS.GRU(3)),
}


@pytest.mark.parametrize(
    "kind", ["LSTM", *(pytest.param(k, marks=pytest.mark.long) for k in MODELS if k != "LSTM")]
)
def test_a_row_is_the_smaller_model(kind):
    model = MODELS[kind]()
    before = model.get_weights()
    surveyor = Surveyor(model, X, Y)
    report = surveyor.report()
    batch = {"batch_size": 20, "verbose": 0}
    assert report.loss == pytest.approx(model.evaluate(X, Y, **batch), rel=1e-5)
    for row in report.rows[:: 1 if kind != "LSTM" else 6]:
        smaller = surveyor.reducer.reduce(row.changes, fit=row.fitted)
        smaller.compile(loss=smaller.loss, run_eagerly=True)  # to compile each takes longer
        assert row.loss == pytest.approx(smaller.evaluate(X, Y, **batch), rel=1e-4), row
        assert row.weights == model.count_params() - smaller.count_params() > 0, row
        assert row.increase == pytest.approx(row.loss - report.loss)
        assert row.explained is None or 0.0 <= row.explained <= 1.0
    row = report.rows[0]
    smaller = kg.reduce_gates(model, row.changes, X, fit=row.fitted)
    assert row.loss == pytest.approx(smaller.evaluate(X, Y, **batch), rel=1e-4)
    for old, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)


def test_the_first_row_is_a_gate_that_does_nothing():
    model = kg.from_keras(compiled(LAYERS.LSTM(4, name="a")))
    layer = model.get_layer("a")
    blocks = {k: {n: np.array(w) for n, w in b.items()} for k, b in layer.block_weights().items()}
    for key in ("kernel", "recurrent_kernel"):
        blocks["output"][key][:] = 0.0
    layer.set_block_weights(blocks)
    y = keras.ops.convert_to_numpy(model(X))
    around = np.concatenate([y + 0.1, y - 0.1])  # any other change makes the loss worse
    report = kg.gate_report(model, np.concatenate([X, X]), around, verbose=0)
    best = report.best
    assert (best.part, best.becomes) == ("output", "a constant a unit")
    assert best.increase == pytest.approx(0.0, abs=1e-6) and best.explained == 1.0
    assert best.bytes == 4 * best.weights == 4 * (3 * 4 + 4 * 4)
    text = str(report).splitlines()
    assert "a constant a unit" in text[2] and f"{model.count_params()} weights" in text[0]
    figure = report.plot()
    assert figure.axes[0].get_legend() is not None


def test_nothing_to_take_away():
    model = compiled(LAYERS.SimpleRNN(1, name="a"))
    with pytest.raises(ValueError, match="a gate with weights, or units that can go"):
        kg.gate_report(model, X, Y, verbose=0)


def test_a_model_without_a_loss():
    model = keras.Sequential([keras.Input((None, 3)), LAYERS.LSTM(4)])
    with pytest.raises(ValueError, match="`model` must be compiled with a loss.*Received: <Seq"):
        kg.gate_report(model, X, Y)


def test_a_loss_that_is_not_finite():
    model = compiled(LAYERS.LSTM(4))
    with pytest.raises(ValueError, match="finite loss on the data. Received: data with a loss of"):
        kg.gate_report(model, X, np.full_like(Y, np.nan), verbose=0)
