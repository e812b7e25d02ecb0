"""What is planted as doing nothing goes, and the smaller model computes the same."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.reduction.model_graph import find_gated_layers, readers_of, twin_of
from keras_gated.reduction.reduce_gates import Reducer
from keras_gated.reduction.steps import MEAN, after, steps_of
from keras_gated.spec.normal_form import resolve

LAYERS = keras.layers
B, T, F, U = 6, 9, 3, 5


def model_of(layer, wrapper=None, **arguments):
    """A model with one recurrent layer on masked sequences, with random weights."""
    x = keras.Input((None, F), name="x")
    y = LAYERS.Masking(0.5)(x)
    recurrent = layer(return_sequences=True, **arguments)
    y = (wrapper(recurrent) if wrapper else recurrent)(y)
    model = keras.Model(x, LAYERS.Dense(2, name="dense")(LAYERS.Dropout(0.3)(y)))
    return with_random_weights(model)


def with_random_weights(model, seed=0):
    rng = np.random.default_rng(seed)
    weights = [0.7 * rng.standard_normal(w.shape) for w in model.get_weights()]
    named = zip(model.weights, weights, strict=True)
    model.set_weights([np.abs(a) if "variance" in w.path else a for w, a in named])
    return model


def inputs(seed=1):
    x = np.random.default_rng(seed).standard_normal((B, T, F)).astype("float32")
    x[0, 6:] = x[1, :2] = 0.5  # masked
    return x


def stacked(layer, **arguments):
    x = keras.Input((None, F), name="x")
    y = layer(return_sequences=True, **arguments)(x)
    y = kg.GatedGRU(4, name="behind", return_sequences=True)(y)
    return with_random_weights(keras.Model(x, LAYERS.Dense(2)(y)))


MODELS = {
    "Keras's LSTM": lambda: model_of(LAYERS.LSTM, units=U, name="layer"),
    "Keras's GRU": lambda: model_of(LAYERS.GRU, units=U, name="layer"),
    "lstm_peephole": lambda: model_of(kg.GatedRNN, units=U, spec="lstm_peephole", name="layer"),
    "gru_cho": lambda: model_of(kg.GatedRNN, units=U, spec="gru_cho", name="layer"),
    "mgu": lambda: model_of(kg.GatedRNN, units=U, spec="mgu", name="layer"),
    "bidirectional": lambda: model_of(LAYERS.LSTM, LAYERS.Bidirectional, units=U, name="layer"),
    "stacked": lambda: stacked(LAYERS.LSTM, units=U, name="layer"),
}


def plant(layer, step):
    """Sets the weights of a gate so that a step changes nothing."""
    blocks = {k: {n: np.array(w) for n, w in b.items()} for k, b in layer.block_weights().items()}
    gate, value = blocks[step.gate], step.becomes
    if value is MEAN or isinstance(value, float):
        gate |= {key: np.zeros_like(w) for key, w in gate.items()}
        gate["bias"] += 0.4 if value is MEAN else 40.0
    elif isinstance(value, kg.Tied):
        sign = -1.0 if value.complement else 1.0
        if step.gate == "output" and "peephole" in gate:  # it sees another memory
            gate["peephole"] = blocks[value.to]["peephole"] = np.zeros(U)
        gate |= {k: sign * w for k, w in blocks[value.to].items()}
    else:
        gone = [key for key in ("kernel", "recurrent_kernel") if getattr(value, key) is None]
        gone += [] if value.peephole else ["peephole"]
        gate |= {key: np.zeros_like(gate[key]) for key in gone if key in gate}
        if value.recurrent_kernel == "diagonal":
            gate["recurrent_kernel"] = np.diag(np.diag(gate["recurrent_kernel"]))
    layer.set_block_weights(blocks)


def outputs(model):
    return keras.ops.convert_to_numpy(model(inputs()))


@pytest.mark.parametrize(
    "kind", [k if k == "mgu" else pytest.param(k, marks=pytest.mark.long) for k in MODELS]
)
def test_what_is_planted_goes_and_nothing_changes(kind):
    model = kg.from_keras(MODELS[kind]())
    layer, first = find_gated_layers(model)[0], model.get_weights()
    steps = steps_of(layer.cell.spec)
    assert len(steps) > 5
    for step in steps:
        model.set_weights(first)
        plant(layer, step)
        before, y = model.get_weights(), outputs(model)
        value = "mean" if step.becomes is MEAN else step.becomes
        smaller = kg.reduce_gates(model, {layer.name: {f"{step.gate}_gate": value}}, inputs())
        np.testing.assert_allclose(outputs(smaller), y, atol=1e-5, err_msg=f"{step}")
        assert smaller.count_params() < model.count_params(), step
        for old, now in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, now)


def set_reading_weights_to_zero(model, layer, units):
    """Sets all weights to 0 by which some units of a layer are read."""
    blocks = {k: {n: np.array(w) for n, w in b.items()} for k, b in layer.block_weights().items()}
    for block in blocks.values():
        if "recurrent_kernel" in block:
            block["recurrent_kernel"][units] = 0.0
    layer.set_block_weights(blocks)
    for reader in readers_of(model, layer):
        kernel = (
            reader.layer.kernel if hasattr(reader.layer, "kernel") else reader.layer.cell.kernel
        )
        rows = np.array(kernel)
        windows = rows.shape[-2] // reader_inputs(reader)
        for i in range(windows):
            rows[..., i * reader_inputs(reader) + reader.first + units, :] = 0.0
        kernel.assign(rows)


def reader_inputs(reader):
    return reader.layer.input_spec.axes[-1]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", MODELS)
def test_units_without_weights_behind_them_go(kind):
    """Units 1 and 3 are read by nothing, so that they go, whatever they do."""
    model = kg.from_keras(MODELS[kind]())
    first = find_gated_layers(model)[0]
    layers = [first, twin] if (twin := twin_of(model, first)) else [first]
    for layer in layers:
        set_reading_weights_to_zero(model, layer, np.array([1, 3]))
    y = outputs(model)
    changes = {layer.name: {"units": U - 2} for layer in layers}
    smaller = kg.reduce_gates(model, changes, inputs())
    np.testing.assert_allclose(outputs(smaller), y, atol=1e-5)
    assert find_gated_layers(smaller)[0].units == U - 2
    assert smaller.count_params() < model.count_params()


def test_fitted_is_nearer_than_copied():
    """What is dropped depends on what stays: the fit finds it, a copy does not."""
    x = np.random.default_rng(4).standard_normal((200, 1, F)).astype("float32")
    x = np.repeat(x, 12, axis=1)  # h is nearly a function of x
    model = kg.from_keras(model_of(LAYERS.LSTM, units=U, name="layer"))
    reducer = Reducer(model, x)
    fit = reducer.fits.of(reducer.layers["layer"], "forget")
    smaller = resolve(after(kg.preset("lstm"), {"forget": kg.Gate(recurrent_kernel=None)}))
    errors = [
        np.square(fit.activation(fit.pre_activation(theta)) - fit.value).mean()
        for theta in (fit.fitted(smaller.blocks["forget"]), fit.copied(smaller.blocks["forget"]))
    ]
    assert errors[0] < errors[1]
    fitted = fit.activation(fit.pre_activation(fit.fitted(smaller.blocks["forget"])))
    np.testing.assert_allclose(fitted.mean(axis=0), fit.value.mean(axis=0), atol=1e-6)


def test_copied_weights_stay_as_they_are():
    model = kg.from_keras(model_of(LAYERS.LSTM, units=U, name="layer"))
    changes = {"layer": {"forget_gate": kg.Gate(recurrent_kernel=None)}}
    kernels = [
        find_gated_layers(m)[0].block_weights()["forget"]["kernel"]
        for m in (model, *(kg.reduce_gates(model, changes, inputs(), fit=f) for f in (False, True)))
    ]
    np.testing.assert_array_equal(kernels[1], kernels[0])
    assert not np.array_equal(kernels[2], kernels[0])


def test_the_optimizer_is_fresh_and_the_rest_is_as_compiled():
    model = keras.Sequential(
        [keras.Input((None, F)), LAYERS.LSTM(U, name="layer"), LAYERS.Dense(2)]
    )
    model.compile(keras.optimizers.Adam(0.007), "mae", metrics=["mse"])
    model.fit(inputs(), np.ones((B, 2)), verbose=0)
    smaller = kg.reduce_gates(model, {0: {"units": 3, "forget_gate": False}}, inputs())
    assert float(smaller.optimizer.learning_rate.numpy()) == pytest.approx(0.007)
    assert int(smaller.optimizer.iterations.numpy()) == 0 and smaller.loss == "mae"
    assert smaller.evaluate(inputs(), np.ones((B, 2)), verbose=0, return_dict=True).keys() >= {
        "mse"
    }
    smaller.fit(inputs(), np.ones((B, 2)), verbose=0)


def test_frozen_layers_stay_frozen_and_nested_models_are_reduced():
    inner = keras.Sequential([keras.Input((None, F)), LAYERS.GRU(U, name="inner")], name="nested")
    model = keras.Sequential([keras.Input((None, F)), inner, LAYERS.Dense(2, trainable=False)])
    reset = {"inner": {"reset_gate": False}}
    smaller = kg.reduce_gates(model, reset, inputs())
    assert not smaller.layers[-1].trainable and smaller.count_params() < model.count_params()
    with pytest.raises(ValueError, match="`units` for layer 'inner': 'inner' lies in a nested"):
        kg.reduce_gates(model, {"inner": {"units": 2}}, inputs())


def readers(*behind):
    x = keras.Input((6, F), name="x")
    y = h = LAYERS.LSTM(U, return_sequences=True, name="layer")(x)
    for layer in behind:
        y = layer([y, h]) if isinstance(layer, LAYERS.Add) else layer(y)
    return with_random_weights(keras.Model(x, y))


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("behind", "reason"),
    [
        ([LAYERS.LayerNormalization(name="norm")], "read by LayerNormalization 'norm'"),
        ([LAYERS.Dense(U, name="d"), LAYERS.Add(name="sum")], "read by Add 'sum'"),
        ([], "are an output of the model"),
        ([kg.GatedRNN(U, "ind_rnn", name="r")], "fine"),
        ([kg.GatedRNN(U, "gru", layer_norm=True, name="n")], "normalises the product"),
        ([kg.GatedRNN(U, "li_gru", batch_norm=True, name="n")], "normalises the product"),
        ([kg.GatedRNN(U, "qrnn_f", name="q")], "fine"),
        ([kg.GatedRNN(U, "ran_linear", name="i")], "fine"),
        ([LAYERS.Conv1D(4, 3, padding="causal", name="c")], "fine"),
        ([LAYERS.TimeDistributed(LAYERS.Dense(2))], "fine"),
    ],
)
def test_who_reads_units(behind, reason):
    model = readers(*behind)
    changes = {"layer": {"units": 3}}
    if reason != "fine":
        with pytest.raises(ValueError, match=f"must not have `units`.*{reason}.*Leave `units` out"):
            kg.reduce_gates(model, changes, inputs()[:, :6])
        return
    gated = kg.from_keras(model)
    layer = find_gated_layers(gated)[0]
    set_reading_weights_to_zero(gated, layer, np.array([0, 4]))
    y = keras.ops.convert_to_numpy(gated(inputs()[:, :6]))
    smaller = kg.reduce_gates(gated, changes, inputs()[:, :6])
    np.testing.assert_allclose(smaller(inputs()[:, :6]), y, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda h: LAYERS.Dense(2)(h[:, -1, :2]), "read by GetItem"),
        (lambda h: LAYERS.Dense(2)(h) + keras.ops.mean(h, -1, keepdims=True), "read by Mean"),
        (lambda h: twice(LAYERS.Dense(2, name="twice"), h), "'twice' is called several times"),
    ],
)
def test_readers_that_are_no_layers_and_layers_called_twice(build, reason):
    x = keras.Input((6, F), name="x")
    model = keras.Model(x, build(LAYERS.LSTM(U, return_sequences=True, name="layer")(x)))
    with pytest.raises(ValueError, match=f"must not have `units`.*{reason}"):
        kg.reduce_gates(model, {"layer": {"units": 3}}, inputs()[:, :6])


def twice(layer, h):
    return layer(h) + layer(LAYERS.Identity()(h))


def test_units_that_are_read_at_two_places():
    x = keras.Input((6, F), name="x")
    h = LAYERS.LSTM(U, return_sequences=True, name="layer")(x)
    model = with_random_weights(keras.Model(x, LAYERS.Dense(2)(LAYERS.Concatenate()([h, h]))))
    smaller = kg.reduce_gates(model, {"layer": {"units": np.int64(U - 1)}}, inputs()[:, :6])
    assert smaller.layers[-1].kernel.shape == (2 * (U - 1), 2)


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_constant_reset_gate_and_units_together(reset_after):
    """What goes together is what goes one after the other."""
    layer = model_of(LAYERS.GRU, units=U, reset_after=reset_after, name="layer")
    both = kg.reduce_gates(layer, {"layer": {"reset_gate": 0.25, "units": 3}}, inputs())
    first = kg.reduce_gates(layer, {"layer": {"reset_gate": 0.25}}, inputs())
    candidate = find_gated_layers(both)[0].block_weights()["candidate"]
    reducer = Reducer(layer, inputs())
    stay = reducer.layer_changes({"layer": {"reset_gate": 0.25, "units": 3}})
    (change,) = stay.values()
    bias = np.array(find_gated_layers(first)[0].block_weights()["candidate"]["bias"])
    recording = reducer.fits.recordings[change.layer]
    kernel = np.array(change.layer.block_weights()["candidate"]["recurrent_kernel"])
    mean = 0.25 * recording.before["h"].mean(axis=0)[change.gone] @ kernel[change.gone]
    np.testing.assert_allclose(candidate["bias"], (bias + mean)[change.stay], atol=1e-5)


def test_the_update_gate_of_a_gru_is_its_forget_gate():
    model = model_of(LAYERS.GRU, units=U, name="layer")
    names = ("update_gate", "forget_gate")
    first, second = (kg.reduce_gates(model, {0: {name: 0.25}}, inputs()) for name in names)
    np.testing.assert_array_equal(first(inputs()), second(inputs()))
    with pytest.raises(ValueError, match="'layer' .*the same gate of a GRU.*'update_gate': 0.25"):
        kg.reduce_gates(model, {0: dict.fromkeys(names, 0.25)}, inputs())


def test_an_output_gate_sees_the_memory_before_zoneout():
    layer = {"units": U, "spec": "lstm_peephole", "zoneout": 0.3, "name": "layer"}
    reducer = Reducer(model_of(kg.GatedRNN, **layer), inputs())
    (gated,) = reducer.layers.values()
    seen = reducer.fits.recordings[gated].values["output"]
    np.testing.assert_allclose(reducer.fits.of(gated, "output").value, seen, atol=1e-5)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: {"units": 2}, "layer": {"units": 3}}, "must name each layer once"),
        ({"layer": {"units": True}}, "between 1 and 4 of its 5 units. Received: units=True"),
        ({}, "`changes` must be a dictionary .*Received: {}"),
        ({"other": {"units": 2}}, "must name recurrent layers of the model: 'layer'.*'other'"),
        ({"layer": {"gate": True}}, "with some of input_gate, .*units. Received"),
        ({"layer": {"units": U}}, f"between 1 and {U - 1} of its {U} units. Received: units={U}"),
        ({"layer": {"reset_gate": 1.0}}, "name gates that have weights. Received: reset_gate"),
        ({"layer": {"forget_gate": kg.Gate(peephole=True)}}, "forget_gate .*a part of what it is"),
        ({0: {"forget_gate": kg.Gate(activation="tanh")}}, "forget_gate .*a part of what it is"),
        ({"layer": {"forget_gate": kg.Tied("forget")}}, "a cell that has a meaning"),
    ],
)
def test_bad_changes(changes, message):
    with pytest.raises(ValueError, match=message):
        kg.reduce_gates(model_of(LAYERS.LSTM, units=U, name="layer"), changes, inputs())


def test_a_model_without_a_recurrent_layer():
    model = keras.Sequential([keras.Input((None, F)), LAYERS.Dense(2)])
    with pytest.raises(ValueError, match="`model` must have a recurrent layer.*Received: <Seq"):
        kg.reduce_gates(model, {0: {"units": 2}}, inputs())


@pytest.mark.parametrize("x", [5, [[0.1, 0.2]]])
def test_data_that_are_no_arrays(x):
    with pytest.raises(ValueError, match="`x` must be an array, .*Received: (int|list)"):
        kg.reduce_gates(model_of(LAYERS.LSTM, units=U, name="layer"), {0: {"units": 2}}, x)


def test_data_that_are_all_masked():
    model = model_of(LAYERS.LSTM, units=U, name="layer")
    with pytest.raises(ValueError, match="`x` must be data on which all layers run.*no time step"):
        kg.reduce_gates(model, {0: {"units": 2}}, np.full((2, 3, F), 0.5, "float32"))


def test_gates_that_are_computed_together():
    model = model_of(kg.GatedRNN, units=U, spec="lstm", layer_norm=True, name="layer")
    with pytest.raises(ValueError, match="gates of a layer with layer_norm.*forget_gate of layer"):
        kg.reduce_gates(model, {0: {"forget_gate": 1.0}}, inputs())
