"""A trace has the values that the gates had: the formula by hand, and models of all kinds."""

import sys

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import BACKEND, raises

B, T, F, U = 3, 7, 4, 5
RNG = np.random.default_rng(3)
X = RNG.normal(size=(B, T, F)).astype("float32")
MASK = np.array([[1, 1, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0], [1] * 7], bool)


def drawn(layer):
    """The layer with weights that are all drawn, biases too."""
    layer.build((None, T, F))
    for weight in layer.weights:
        weight.assign(0.6 * RNG.normal(size=weight.shape))
    return layer


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, atol=tolerance, rtol=0)


def test_a_peephole_lstm_by_hand():
    layer = drawn(kg.GatedLSTM(U, peephole=True, return_sequences=True, name="one"))
    seen = kg.trace_gates(layer, X)["one"]
    w = {b: {k: np.float64(v) for k, v in of.items()} for b, of in layer.block_weights().items()}
    h = c = np.zeros((B, U))
    for t in range(T):
        a = {b: X[:, t] @ v["kernel"] + h @ v["recurrent_kernel"] + v["bias"] for b, v in w.items()}
        i = sigmoid(a["input"] + w["input"]["peephole"] * c)
        f = sigmoid(a["forget"] + w["forget"]["peephole"] * c)
        candidate = np.tanh(a["candidate"])
        c = f * c + i * candidate
        o = sigmoid(a["output"] + w["output"]["peephole"] * c)
        h = o * np.tanh(c)
        values = {"input": i, "forget": f, "output": o, "candidate": candidate, "c": c, "h": h}
        assert seen.keys() == values.keys()
        for name, value in values.items():
            close(seen[name][:, t], value)


def test_a_gru_by_hand_with_its_tied_gate():
    layer = drawn(kg.GatedRNN(U, "gru_cho", return_sequences=True, name="one"))
    seen = kg.trace_gates(layer, X)["one"]
    w = {b: {k: np.float64(v) for k, v in of.items()} for b, of in layer.block_weights().items()}
    before = np.concatenate([np.zeros((B, 1, U)), seen["h"][:, :-1]], axis=1)

    def a(block, h):
        of = w[block]
        return X @ of["kernel"] + h @ of["recurrent_kernel"] + of["bias"]

    close(seen["forget"], sigmoid(a("forget", before)))
    close(seen["input"], 1 - seen["forget"])
    close(seen["reset"], sigmoid(a("reset", before)))
    close(seen["candidate"], np.tanh(a("candidate", seen["reset"] * before)))
    close(seen["h"], seen["forget"] * before + seen["input"] * seen["candidate"])
    assert "c" not in seen and "output" not in seen


@pytest.mark.parametrize("name", ["nfg", "mgu", "mut1", "min_gru", "fgr", "cfn", "qrnn_f"])
@pytest.mark.parametrize("given", [{}, {"go_backwards": True}], ids=["forwards", "backwards"])
def test_outputs_are_those_of_the_layer_under_a_mask(name, given):
    layer = kg.GatedRNN(F, name, return_sequences=True, **given)
    layer.build((None, T, F))
    y = keras.ops.convert_to_numpy(layer(X, mask=MASK))
    y = y[:, ::-1] if given else y  # Keras gives them in the order in which the layer ran

    class Masked(keras.Model):
        def call(self, x):
            return layer(x, mask=MASK)

    (seen,) = kg.trace_gates(Masked(), X).values()
    for name in seen:
        assert (np.isnan(seen[name]).any(axis=-1) == ~MASK).all(), name
    close(seen["h"][MASK], y[MASK])


def test_a_layer_with_options_that_act_in_each_step():
    layer = drawn(
        kg.GatedLSTM(U, layer_norm=True, projection_units=3, return_sequences=True, name="one")
    )
    seen = kg.trace_gates(layer, X)["one"]
    assert seen["h"].shape == (B, T, 3) and seen["forget"].shape == (B, T, U)
    assert np.isfinite(seen["c"]).all()


@pytest.mark.parametrize("given", [{"zoneout": (0.3, 0.2)}, {"zero_output_for_mask": True}])
def test_what_options_make_of_output_and_memory_is_traced(given):
    layer = drawn(kg.GatedLSTM(U, return_sequences=True, return_state=True, name="one", **given))
    y, _, c = (keras.ops.convert_to_numpy(value) for value in layer(X, mask=MASK))
    after = keras.layers.Dense(2)
    displayed = []

    class Masked(keras.Model):
        def call(self, x):
            outputs = layer(x, mask=MASK)
            displayed.append(keras.ops.convert_to_numpy(outputs[0]))
            return after(outputs[0])

    seen = kg.trace_gates(Masked(), X)["one"]
    close(seen["h"][MASK], y[MASK])
    close(seen["c"][2, -1], c[2])
    close(displayed[0], y)
    layer.return_sequences = False
    (last, *_), expected = layer(X, mask=MASK), y[:, -1]
    close(keras.ops.convert_to_numpy(last), expected)
    kg.trace_gates(Masked(), X)
    close(displayed[1], expected)


def test_the_states_of_a_stream_stay_where_they_were():
    layer = kg.GatedLSTM(U, stateful=True, return_sequences=True, name="one")
    stream = keras.Sequential([keras.Input(batch_shape=(B, T, F)), layer])
    stream.predict(X, batch_size=B, verbose=0)
    before = [keras.ops.convert_to_numpy(state) for state in layer.states]
    seen = kg.trace_gates(stream, X)["one"]
    for state, old in zip(layer.states, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(state), old)
    assert np.abs(old).max() > 0.01
    close(seen["h"], stream.predict(X, batch_size=B, verbose=0))


def model() -> keras.Model:
    """Two directions, a model in the model, a layer called twice, a stock layer between."""
    inner = keras.Sequential([keras.Input((T, 6)), kg.GatedGRU(4, name="deep")], name="inner")
    x = keras.Input((T, F))
    both = keras.layers.Bidirectional(
        kg.GatedLSTM(3, return_sequences=True, name="ends"), name="both"
    )(x)
    twice = kg.GatedRNN(6, "mgu", return_sequences=True, name="twice")
    y = inner(twice(twice(keras.layers.Dense(6)(both))))
    return keras.Model(x, keras.layers.Dense(1)(y))


def test_models_of_all_kinds(tmp_path):
    built = model()
    seen = kg.trace_gates(built, X)
    assert list(seen) == ["forward_ends", "backward_ends", "twice", "twice (2)", "deep"]
    both = keras.Model(built.input, built.get_layer("both").output).predict(X, verbose=0)
    found = [seen[f"{way}_ends"]["h"] for way in ("forward", "backward")]
    close(np.concatenate(found, axis=-1), both)  # time is that of the inputs
    built.save(tmp_path / "model.keras")
    again = kg.trace_gates(keras.saving.load_model(tmp_path / "model.keras"), X)
    for name, values in seen.items():
        for key, value in values.items():
            close(again[name][key], value, 1e-6)


def test_names_that_are_not_unique_are_paths():
    parts = [
        keras.Sequential([keras.Input((T, F)), kg.GatedGRU(F, return_sequences=True, name="g")])
        for _ in range(2)
    ]
    seen = kg.trace_gates(keras.Sequential([keras.Input((T, F)), *parts]), X)
    assert len(seen) == 2 and all(name.endswith("/g") for name in seen)


def test_nothing_of_a_compiled_model_changes():
    built = model()
    built.compile("sgd", "mse", jit_compile=BACKEND != "torch")
    before, weights = built.predict(X, verbose=0), built.get_weights()
    kg.trace_gates(built, X)
    close(built.predict(X, verbose=0), before, 0)
    for a, b in zip(built.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_mixed_precision_is_traced_as_it_runs():
    layer = kg.GatedLSTM(U, return_sequences=True, dtype="mixed_bfloat16", name="one")
    layer.build((None, T, F))
    seen = kg.trace_gates(layer, X)["one"]
    y = keras.ops.convert_to_numpy(keras.ops.cast(layer(X), "float32"))
    close(seen["h"], y, 2e-2)
    assert seen["forget"].dtype == np.float32


def test_a_model_without_gated_layers_is_refused():
    stock = keras.Sequential([keras.Input((T, F)), keras.layers.LSTM(3)])
    raises(lambda: kg.trace_gates(stock, X), "GatedRNN, GatedLSTM or GatedGRU")


# What is made of it -------------------------------------------------------------------------


def test_half_lives_and_saturation_of_known_gates():
    forget = np.full((2, 50, 3), [0.5, 0.9, 1.0])
    forget[1, 10:] = np.nan
    close(kg.half_life(forget), [1.0, np.log(0.5) / np.log(0.9), np.inf], 1e-9)
    decayed = 0.9 ** np.arange(20)
    assert np.argmax(decayed < 0.5) == np.ceil(kg.half_life(forget)[1])
    assert kg.saturation(np.array([0.05, 0.5, 0.95, 0.99, np.nan])) == (0.25, 0.5)


@pytest.mark.long
def test_the_monitor_logs_what_the_trace_says(tmp_path):
    built = model()
    built.compile("sgd", "mse")
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    callbacks = [kg.GateMonitor(X, margin=0.2), log]
    history = built.fit(X, np.ones((B, 1)), epochs=2, verbose=0, callbacks=callbacks).history
    forget = kg.trace_gates(built, X)["deep"]["forget"]
    assert history["deep/half_life"][-1] == pytest.approx(np.median(kg.half_life(forget)))
    assert history["deep/forget_open"][-1] == pytest.approx((forget > 0.8).mean())
    assert history["deep/forget_closed"][-1] == pytest.approx((forget < 0.2).mean())
    assert history["deep/half_life"][0] != history["deep/half_life"][1]
    assert "deep/forget_open" in (tmp_path / "log.csv").read_text().splitlines()[0]
    raises(lambda: kg.GateMonitor(X, margin=0.5), "`margin`...margin=0.5")


def test_figures(tmp_path):
    pytest.importorskip("matplotlib")
    trace = kg.trace_gates(model(), X)
    figure = kg.plot_gates(trace, "deep", row=1)
    figure.savefig(tmp_path / "gates.png")
    maps = [axes.images[0] for axes in figure.axes if axes.images]
    values = [trace["deep"][k] for k in ("input", "forget", "reset", "candidate", "h")]
    for image, value in zip(maps, values, strict=True):
        np.testing.assert_array_equal(image.get_array(), value[1].T)
    (axes,) = kg.plot_memory(trace).axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    close(lines["deep"], np.sort(kg.half_life(trace["deep"]["forget"])), 1e-9)
    raises(lambda: kg.plot_gates(trace, "shallow"), "`layer`...'forward_ends'...layer='shallow'")
    raises(lambda: kg.plot_gates(trace, row=3), "`row`...3...row=3")
    plain = kg.trace_gates(kg.GatedLSTM(2, forget_gate=False), X)
    raises(lambda: kg.plot_memory(plain), "forget gate")


LARGEST, LEAST = np.finfo("float32").max, np.float32(0.01)


@pytest.mark.parametrize(
    ("values", "limits", "scale"),
    [
        ([0.01, 0.5], (0.0, 1.0), "linear"),
        ([0.01, 3.0], (LEAST, 3.0), "log"),
        ([0.0, 0.01, np.inf, np.nan], (LEAST, LARGEST), "log"),
        ([30.7], (15.35, 61.4), "log"),
        ([-0.5, 0.5], (-0.5, 0.5), "linear"),
        ([-np.inf, np.inf], (-LARGEST, LARGEST), "linear"),
        ([np.nan], (0.0, 1.0), "linear"),
    ],
    ids=str,
)
def test_the_scale_of_a_gate(values, limits, scale):
    """And all values are drawn: those at the ends of the range, too."""
    pytest.importorskip("matplotlib")
    array = np.array(values, "float32")[None, :, None]
    figure = kg.plot_gates({"layer": {"input": array, "h": 0.0 * np.nan_to_num(array)}})
    figure.draw_without_rendering()
    drawn, shares = figure.axes[:2]
    found = drawn.images[0].norm
    assert (found.vmin, found.vmax) == pytest.approx(limits)
    assert (type(found).__name__ == "LogNorm") == (scale == "log")
    assert shares.get_xscale() == scale
    assert np.ma.count(drawn.images[0].get_array()) == np.sum(~np.isnan(values))
    assert sum(bar.get_height() for bar in shares.patches) == np.sum(~np.isnan(values))


def test_states_of_a_normaliser_have_their_names():
    pytest.importorskip("matplotlib")
    figure = kg.plot_gates(kg.trace_gates(kg.GatedRNN(2, "xlstm_slstm"), X))
    labels = {axes.get_ylabel() for axes in figure.axes if axes.images}
    assert {"normaliser n\nunits", "stabiliser m\nunits", "output h\nunits"} <= labels


def test_a_missing_matplotlib_is_named(monkeypatch):
    trace = kg.trace_gates(kg.GatedGRU(2), X)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    raises(lambda: kg.plot_gates(trace), "pip install...[plot]", ImportError)
