"""`use_cudnn=True`: cuDNN runs the layer or an error says why not; without cuDNN, JAX's `lstm_ref`.

What cuDNN itself computes, tests/gpu compares on a GPU.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from keras_gated.engine.backends.selected import backend
from tests.helpers import BACKEND, B, F, T, U, assert_close, raises, run_and_differentiate

jax_only = pytest.mark.skipif(BACKEND != "jax", reason="JAX's LSTM of cuDNN")
LENGTHS = np.array([T, 1, 0, T - 3])
CELLS = {
    "lstm": kg.preset("lstm"),
    "no input gate": kg.GatedLSTM(U, input_gate=False).spec,
    "half of the memory stays": kg.GatedLSTM(U, forget_gate=0.5).spec,
    "coupled": kg.GatedLSTM(U, input_gate=kg.Tied("forget", complement=True)).spec,
    "tied": kg.GatedLSTM(U, output_gate=kg.Tied("input")).spec,
    "no weights in gates": kg.preset("slim_lstm3"),
    "diagonal": kg.GatedLSTM(U, forget_gate=kg.Gate(recurrent_kernel="diagonal")).spec,
    "projected": replace(kg.preset("lstm"), input_projection=kg.Projection()),
}
X = np.random.default_rng(0).normal(size=(B, T, F)).astype("float32")


@pytest.fixture
def ran(monkeypatch) -> list:
    """The calls of cuDNN's LSTM, which JAX's reference computes."""
    from jax.experimental import rnn

    calls = []

    def reference(x, h, c, weights, lengths, inputs, units, layers, dropout, both, precision):
        calls.append(precision)
        layout = inputs, units, layers
        parts = rnn.unpack_lstm_weights(weights, *layout, both)
        return rnn.lstm_ref(x, h, c, *parts, lengths, *layout, dropout, both)

    monkeypatch.setattr(rnn, "lstm", reference)
    monkeypatch.setattr(backend, "_why_no_gpu", lambda: None)
    return calls


def pair(spec, **arguments) -> list:
    """Two layers of the same weights: on cuDNN, and under XLA."""
    rng = np.random.default_rng(1)
    layers = [
        kg.GatedRNN(U, spec, use_cudnn=way, return_sequences=True, return_state=True, **arguments)
        for way in (True, "auto")
    ]
    for layer in layers:
        layer.build(X.shape)
    weights = [rng.normal(size=w.shape, scale=0.5) for w in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


@jax_only
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("name", CELLS)
def test_numbers_and_gradients_are_those_of_the_loop(name, lengths, ran):
    rng = np.random.default_rng(2)
    upstream = rng.normal(size=(B, T, U)).astype("float32")
    states = [rng.normal(size=(B, U)).astype("float32") for _ in range(2)]
    call = {} if lengths is None else {"lengths": lengths}
    x = X.copy()
    if lengths is not None:  # padding may be anything
        x[np.arange(T) >= lengths[:, None]] = np.nan
    found = [
        run_and_differentiate(layer, x, upstream, states, **call) for layer in pair(CELLS[name])
    ]
    assert len(ran) > 0
    for ours, theirs in zip(*found, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert_close(a, b, "keras float32", name)


@jax_only
@pytest.mark.parametrize(
    "arguments", [{"go_backwards": True}, {"stateful": True}, {"dropout": 0.3, "weight_noise": 0.1}]
)
def test_what_a_layer_does_around_the_run(arguments, ran):
    found = []
    for layer in pair("lstm", seed=3, **arguments):
        found.append([layer(X, training=True), layer(X, training=True)])
    assert len(ran) == 2
    for a, b in zip(*map(keras.tree.flatten, found), strict=True):
        assert_close(a, b, "keras float32", str(arguments))


@jax_only
def test_compiled_in_fit(ran):
    found = []
    for way in (True, False):
        keras.utils.set_random_seed(4)
        layer = kg.GatedLSTM(U, use_cudnn=way)
        model = keras.Sequential([keras.Input((T, F)), layer, keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=True)
        model.fit(X, X[:, 0, :1], epochs=2, verbose=0)
        found.append(model.get_weights())
    assert len(ran) > 0
    for a, b in zip(*found, strict=True):
        assert_close(a, b, "keras float32", "weights after two steps")


@jax_only
@pytest.mark.parametrize(("name", "exact"), [("highest", True), ("default", False), (None, False)])
def test_tf32_is_as_in_products(name, exact, ran):
    import jax

    before = jax.config.jax_default_matmul_precision
    jax.config.update("jax_default_matmul_precision", name)
    try:
        pair("lstm")[0](X)
    finally:
        jax.config.update("jax_default_matmul_precision", before)
    assert ran == [jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.HIGH]


@jax_only
def test_wrong_blocks_are_found(ran, monkeypatch):
    """Planted: the forget gate takes the weights of the input gate."""
    right = backend.pack_block
    swap = {"i": "f", "f": "i"}
    monkeypatch.setattr(
        backend, "pack_block", lambda ops, k, *rest: right(ops, swap.get(k, k), *rest)
    )
    with pytest.raises(AssertionError, match="differs by"):
        test_numbers_and_gradients_are_those_of_the_loop("lstm", None, ran)


# What cuDNN cannot run ---------------------------------------------------------------------------

REFUSED = {
    "peephole": ({"spec": "lstm_peephole"}, {}, "no such layer computes the cell"),
    "another activation": ({"activation": "relu"}, {}, "no such layer computes the cell"),
    "no operator": ({"spec": "fgr"}, {}, "(gate_recurrence"),
    "unrolled": ({"unroll": True}, {}, "unroll=True"),
    "zoneout": ({"zoneout": 0.1}, {}, "`zoneout=0.1`"),
    "batch_norm": ({"batch_norm": True}, {}, "`batch_norm=True`"),
    "recurrent dropout": ({"recurrent_dropout": 0.5}, {"training": True}, "dropout"),
    "resets": ({}, {"resets": np.eye(B, T, dtype=bool)}, "`resets`"),
    "at once": ({"spec": "para_lstm", "time_parallel": True}, {}, "time_parallel=True"),
}
ON_JAX = {
    "GRU": ({"spec": "gru"}, {}, "only an LSTM...GRU"),
    "bfloat16": ({"dtype": "mixed_bfloat16"}, {}, "float32 alone...bfloat16"),
    "mask": ({}, {"mask": np.ones((B, T), bool)}, "`lengths`"),
    "a mask too": ({}, {"mask": np.ones((B, T), bool), "lengths": LENGTHS}, "`lengths`"),
    "padding first": ({"go_backwards": True}, {"lengths": LENGTHS}, "the padding comes first"),
    "nothing": ({}, {"x": X[:0]}, "no time step or no sequence"),
}


def refuses(name: str, given: tuple) -> None:
    arguments, call, text = given
    layer = kg.GatedRNN(U, **{"spec": "lstm", **arguments}, use_cudnn=True, name=name[:3])
    call = {"x": X, **call}
    x = call.pop("x")
    raises(lambda: layer(x, **call), f"`use_cudnn=True` of...Received:...{text}...use_cudnn='auto'")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cudnn_cannot_run_is_said(name):
    refuses(name, REFUSED[name])


@jax_only
@pytest.mark.parametrize("name", ON_JAX)
def test_what_it_cannot_run_on_jax_is_said(name, ran):
    refuses(name, ON_JAX[name])
    assert ran == []


@pytest.mark.parametrize("compiled", [False, True])
def test_without_cudnn_a_run_raises(compiled):
    where = {"tensorflow": "under XLA", "jax": "on 'cpu'", "torch": "on 'cpu'"}[BACKEND]
    layer = kg.GatedLSTM(U, use_cudnn=True)
    run = lambda: layer(X)  # noqa: E731
    if compiled:
        model = keras.Sequential([layer])
        model.compile("sgd", "mse")
        run = lambda: model.predict(X, verbose=0)  # noqa: E731
    raises(run, f"`use_cudnn=True` of {layer.name}...{BACKEND!r}...{where}...use_cudnn='auto'")


# Without cuDNN: made, loaded, traced, converted, exported -----------------------------------------


class Written(keras.Model):
    """A model without a graph: Keras calls it to find its shapes."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.layer = kg.GatedLSTM(U, use_cudnn=True)

    def call(self, x):
        return self.layer(x)


@pytest.fixture
def model() -> keras.Model:
    both = keras.layers.Bidirectional(kg.GatedLSTM(U, use_cudnn=True, return_sequences=True))
    layers = [both, kg.GatedLSTM(U, use_cudnn=True, name="last")]
    return keras.Sequential([keras.Input((T, F)), *layers])


def test_it_is_saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].forward_layer.use_cudnn is True
    assert loaded.get_layer("last").use_cudnn is True
    raises(lambda: loaded(X), "`use_cudnn=True`")
    both = loaded.layers[0]
    for layer in (both.forward_layer, both.backward_layer, loaded.layers[1]):
        layer.use_cudnn = "auto"
    plain = kg.GatedLSTM(U, name="plain")
    plain.build((B, T, 2 * U))
    plain.set_weights(loaded.layers[1].get_weights())
    assert_close(loaded(X), plain(both(X)), "reload", "after its change")


def test_shapes_need_no_cudnn(tmp_path):
    """Without a graph, Keras finds them by a call."""
    written = Written()
    assert written(keras.Input((T, F))).shape == (None, U)
    written.save(tmp_path / "written.keras")
    custom = {"Written": Written}
    loaded = keras.models.load_model(tmp_path / "written.keras", custom_objects=custom)
    raises(lambda: loaded(X), "`use_cudnn=True`")


def test_gates_are_traced_without_cudnn(model):
    traces = kg.trace_gates(model.get_layer("last"), np.ones((B, T, 2 * U), "float32"))
    assert traces["last"]["forget"].shape == (B, T, U)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere another process exports")
def test_it_is_exported_without_cudnn(model, tmp_path):
    pytest.importorskip("onnxruntime")
    import onnxruntime

    path = tmp_path / "model.onnx"
    report = kg.export_onnx(model, path)
    assert report.operators["LSTM"] == 2 and "Loop" not in report.operators
    config = model.get_layer("last").get_config()
    assert config["use_cudnn"] is True
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: X})[0]
    both = model.layers[0]
    for layer in (both.forward_layer, both.backward_layer, model.layers[1]):
        layer.use_cudnn = False
    assert_close(found, model(X), "float32", "the file")


def test_what_comes_from_keras_runs_everywhere():
    stock = keras.layers.LSTM(U, use_cudnn=True if BACKEND == "torch" else "auto")
    stock.build((B, T, F))
    stock.use_cudnn = True
    gated = kg.from_keras(stock)
    assert gated.use_cudnn == "auto"
    assert ops.shape(gated(X)) == (B, U)


@pytest.mark.skipif(BACKEND != "torch", reason="torch records it")
def test_torch_records_it_for_a_file():
    import torch

    layer = kg.GatedLSTM(U, use_cudnn=True)
    layer.build((B, T, F))
    exported = torch.export.export(layer, (torch.zeros(B, T, F),), strict=False)
    layer.use_cudnn = "auto"
    found = exported.module()(torch.tensor(X))
    assert_close(found, layer(X), "keras float32", "recorded")
