"""Weights from and to Keras and torch: the same numbers, and what cannot be converted is refused.

The witnesses are Keras's and torch's own layers.
"""

import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from keras_gated.onnx.tracing.model_layers import places_within
from tests.helpers import FINEST, B, F, U, assert_close, raises

LAYERS = keras.layers
T = 5
# Before the first valid time step Keras differs among backends: no row starts with a masked one.
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 1, 1]], bool)
X = np.random.default_rng(1).standard_normal((B, T, F)).astype("float32")


def drawn(layer, shape=X.shape):
    """The layer, built, with random weights."""
    if not layer.built:
        layer.build(shape)
    rng = np.random.default_rng(2)
    layer.set_weights([0.6 * rng.standard_normal(w.shape) for w in layer.get_weights()])
    return layer


def states(layer):
    """Random states for a layer, in its structure."""
    rng = np.random.default_rng(3)
    sides = [layer.forward_layer, layer.backward_layer] if hasattr(layer, "merge_mode") else [layer]
    zeros = [state for side in sides for state in side.get_initial_state(B)]
    return keras.tree.map_structure(lambda z: 0.7 * rng.standard_normal(z.shape), zeros)


def flat(results):
    return [ops.convert_to_numpy(one) for one in keras.tree.flatten(results)]


def assert_same(others, layer, **call):
    """Raises where layers or models give other numbers, for X and what is passed beside it."""
    expected = flat(layer(X, **call))
    for other in others:
        results = flat(other(X, **call))
        assert len(results) == len(expected)
        for k, (one, right) in enumerate(zip(results, expected, strict=True)):
            assert_close(one, right, "keras float32", f"{other.name}: result {k}")


BOTH = {"return_sequences": True, "return_state": True}
SETTINGS = {
    "lstm": (lambda: LAYERS.LSTM(U, **BOTH), kg.GatedLSTM),
    "lstm set": (
        lambda: LAYERS.LSTM(U, "relu", "hard_sigmoid", use_bias=False, **BOTH),
        kg.GatedLSTM,
    ),
    "gru": (lambda: LAYERS.GRU(U, **BOTH), kg.GatedGRU),
    "gru reset before": (
        lambda: LAYERS.GRU(U, None, "hard_sigmoid", reset_after=False, return_state=True),
        kg.GatedGRU,
    ),
    "gru without bias": (lambda: LAYERS.GRU(U, use_bias=False, unroll=True, **BOTH), kg.GatedGRU),
    "simple": (lambda: LAYERS.SimpleRNN(U, "relu", zero_output_for_mask=True, **BOTH), kg.GatedRNN),
    "lstm cell": (lambda: LAYERS.RNN(LAYERS.LSTMCell(U), **BOTH), kg.GatedLSTM),
    "gru cell": (lambda: LAYERS.RNN(LAYERS.GRUCell(U), **BOTH), kg.GatedGRU),
    "simple cell": (lambda: LAYERS.RNN(LAYERS.SimpleRNNCell(U), return_state=True), kg.GatedRNN),
    "gated cell": (lambda: LAYERS.RNN(kg.GatedCell(U, "gru_cho"), **BOTH), kg.GatedRNN),
    "stack": (
        lambda: LAYERS.RNN([LAYERS.LSTMCell(U), LAYERS.LSTMCell(U + 1)], **BOTH),
        LAYERS.RNN,
    ),
    "mixed stack": (
        lambda: LAYERS.RNN([LAYERS.GRUCell(U), LAYERS.SimpleRNNCell(U + 1)], go_backwards=True),
        LAYERS.RNN,
    ),
    "both ways": (
        lambda: LAYERS.Bidirectional(LAYERS.LSTM(U, **BOTH), merge_mode=None),
        LAYERS.Bidirectional,
    ),
    "unlike both ways": (
        lambda: LAYERS.Bidirectional(
            LAYERS.GRU(U), "sum", backward_layer=LAYERS.SimpleRNN(U, go_backwards=True)
        ),
        LAYERS.Bidirectional,
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_keras_layers_become_gated_ones_and_come_back(name):
    make, kind = SETTINGS[name]
    layer = drawn(make())
    twin = kg.from_keras(layer)
    assert type(twin) is kind
    back = kg.to_keras(twin)
    assert {layer.name, twin.name, back.name} == {layer.name}
    call = {} if name == "mixed stack" else {"initial_state": states(layer)}
    assert_same([twin, back], layer, mask=MASK, **call)
    assert_same([twin], layer, **call)
    if name != "gated cell":
        assert stock_only(back)


def stock_only(layer) -> bool:
    return "keras_gated" not in str(keras.saving.serialize_keras_object(layer))


def test_settings_go_along_both_ways():
    settings = {
        "kernel_initializer": keras.initializers.RandomNormal(stddev=0.3),
        "recurrent_initializer": "he_normal",
        "bias_initializer": "ones",
        "unit_forget_bias": False,
        "kernel_regularizer": keras.regularizers.L2(0.1),
        "recurrent_regularizer": keras.regularizers.L1(0.2),
        "bias_regularizer": "l2",
        "activity_regularizer": "l1",
        "kernel_constraint": keras.constraints.MaxNorm(3),
        "recurrent_constraint": "unit_norm",
        "bias_constraint": "non_neg",
        "dropout": 0.1,
        "recurrent_dropout": 0.2,
        "seed": 7,
        "return_sequences": True,
        "return_state": True,
        "go_backwards": True,
        "stateful": True,
        "unroll": True,
        "zero_output_for_mask": True,
        "name": "memory",
        "trainable": False,
        "dtype": "mixed_bfloat16",
    }
    layer = LAYERS.LSTM(U, "softsign", "hard_sigmoid", **settings)
    config, twin = layer.get_config(), kg.from_keras(layer)
    assert config.items() >= {"unroll": True, "zero_output_for_mask": True, "seed": 7}.items()
    ours = twin.get_config()
    for name in config:
        assert ours[name] == config[name], name
    assert kg.to_keras(twin).get_config() == config
    assert not twin.built


def test_a_cell_of_other_type_or_frozen_alone_stays_so():
    layer = drawn(LAYERS.LSTM(U))
    layer.cell.trainable = False
    twin = kg.from_keras(layer)
    assert twin.trainable and not twin.trainable_weights and len(twin.weights) == 3
    assert not kg.to_keras(twin).trainable_weights


def test_stateful_layers_keep_their_batch_and_go_on():
    layer = drawn(LAYERS.GRU(U, stateful=True))
    twin = kg.from_keras(layer)
    for _ in range(2):
        assert_same([twin], layer)


def test_other_dtypes():
    layer = drawn(LAYERS.GRU(U, dtype="float64"))
    twin = kg.from_keras(layer)
    x = X.astype("float64")
    assert twin.compute_dtype == "float64"
    kind = f"keras {FINEST}"
    assert_close(twin(x), layer(x), kind, "from_keras")
    assert_close(kg.to_keras(twin)(x), layer(x), kind, "to_keras")


BY_HAND = {
    "LSTM": kg.CellSpec(
        input_gate=kg.Gate(activation="hard_sigmoid"),
        forget_gate=kg.Gate(activation="hard_sigmoid", bias_initializer="ones"),
        output_gate=kg.Gate("dense", "dense", activation="hard_sigmoid", use_bias=True),
        candidate=kg.Candidate(activation="softsign"),
        output_activation="softsign",
    ),
    "GRU": kg.CellSpec(
        memory="hidden",
        forget_gate=True,
        input_gate=kg.Tied("forget", complement=True),
        reset_gate=True,
    ),
    "SimpleRNN": kg.CellSpec(memory="hidden", forget_gate=0.0, input_gate=1.0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_what_a_cell_is_decides_and_not_its_name(name):
    layer = drawn(kg.GatedRNN(U, BY_HAND[name], **BOTH))
    twin = kg.to_keras(layer)
    assert type(twin) is getattr(LAYERS, name)
    assert_same([layer], twin, initial_state=states(layer), mask=MASK)
    if name == "LSTM":
        assert twin.cell.unit_forget_bias


def test_initial_biases_without_an_argument_go_along_as_weights():
    spec = replace(kg.preset("gru"), forget_gate=kg.Gate(bias_initializer="ones"))
    layer = kg.GatedRNN(U, spec, name="memory")
    raises(
        lambda: kg.to_keras(layer),
        "`layer`...built...GRU...Received: GatedRNN 'memory', not built...forget",
    )
    layer.build(X.shape)
    assert_same([kg.to_keras(layer)], layer)
    assert np.max(layer.get_weights()[2]) == 1.0


# Models


def functional():
    x = keras.Input((T, F), name="x")
    shared = LAYERS.LSTM(U, return_sequences=True)
    y = LAYERS.Masking(0.0)(x)
    y = LAYERS.Bidirectional(LAYERS.GRU(U, return_sequences=True))(y)
    y = shared(LAYERS.Dense(U)(y)) + shared(LAYERS.Dense(U)(y))
    inner = keras.Sequential([keras.Input((T, U)), LAYERS.SimpleRNN(U), LAYERS.Dense(3)])
    return keras.Model(x, {"y": inner(ops.tanh(y)), "last": LAYERS.LSTM(4)(y)})


def sequential():
    layers = [LAYERS.LSTM(U, return_sequences=True), LAYERS.Dropout(0.5), LAYERS.GRU(4)]
    model = keras.Sequential(layers)
    model(X)
    return model


def of_frames():
    inner = keras.Sequential([keras.Input((T, 1)), LAYERS.GRU(U)])
    layers = [LAYERS.Reshape((F, T, 1)), LAYERS.TimeDistributed(inner), LAYERS.LSTM(4)]
    return keras.Sequential([keras.Input((T, F)), *layers])


@pytest.mark.parametrize("make", [functional, sequential, of_frames])
def test_models_with_all_that_is_in_them(make):
    model = drawn(make())
    twin = kg.from_keras(model)
    back = kg.to_keras(twin)
    names = [layer.name for layer in model.layers]
    for other in (twin, back):
        assert type(other) is type(model) and [one.name for one in other.layers] == names
    assert_same([twin, back, kg.from_keras(twin)], model)
    recurrent = [one for one in places_within(twin) if isinstance(one, LAYERS.RNN)]
    assert recurrent and all(isinstance(one, kg.GatedRNN) for one in recurrent)
    assert stock_only(back)


def test_a_compiled_model_is_compiled_again():
    model = keras.Sequential([keras.Input((T, F)), LAYERS.GRU(U), LAYERS.Dense(1)])
    model.compile("adam", "mse")
    twin = kg.from_keras(model)
    assert twin.compiled
    assert_close(
        twin.evaluate(X, X[:, 0, :1], verbose=0),
        model.evaluate(X, X[:, 0, :1], verbose=0),
        "keras float32",
        "loss",
    )


# torch

MODULES = {
    "rnn": ("RNN", {}),
    "rnn relu": ("RNN", {"nonlinearity": "relu", "bias": False}),
    "lstm": ("LSTM", {}),
    "lstm both ways": ("LSTM", {"bidirectional": True}),
    "gru": ("GRU", {}),
    "gru without bias": ("GRU", {"bias": False}),
    "gru both ways": ("GRU", {"bidirectional": True}),
    "rnn both ways": ("RNN", {"bidirectional": True, "bias": False}),
    "three lstm": ("LSTM", {"num_layers": 3, "dropout": 0.3}),
    "two gru both ways": ("GRU", {"num_layers": 2, "bidirectional": True}),
    "lstm projected": ("LSTM", {"proj_size": 2}),
    "lstm projected both ways": ("LSTM", {"proj_size": 2, "bidirectional": True}),
    "two lstm projected": ("LSTM", {"proj_size": 2, "num_layers": 2}),
}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def module_of(torch, name, dtype="float32", batch_first=True):
    """A module in evaluation, which draws weights and two unlike biases itself, and its inputs."""
    kind, settings = MODULES[name]
    torch.manual_seed(4)
    module = getattr(torch.nn, kind)(F, U, batch_first=batch_first, **settings)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.6)
    dtype = getattr(torch, dtype)
    return module.to(dtype).eval(), torch.tensor(X).to(dtype)


def torch_states(torch, module, x):
    """Random initial states as torch takes them, one for each layer and direction."""
    count = module.num_layers * (1 + module.bidirectional)
    sizes = (module.proj_size or U, U)
    several = [0.7 * torch.randn(count, B, size, dtype=x.dtype) for size in sizes]
    return several if isinstance(module, torch.nn.LSTM) else several[:1]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", MODULES)
def test_torch_modules_become_gated_layers(torch, name):
    module, x = module_of(torch, name)
    layer = kg.from_torch(module)
    several = module.num_layers > 1
    given = [] if several else torch_states(torch, module, x)
    with torch.no_grad():
        expected = module(x, (tuple(given) if len(given) > 1 else given[0]) if given else None)[0]
    # One direction after the other, the states of each together.
    ways = [state[k].numpy() for k in range(1 + module.bidirectional) for state in given]
    call = {} if several else {"initial_state": ways}
    assert_close(layer(X, **call), expected.numpy(), "keras float32", name)


def test_torch_modules_give_a_layer_a_wrapper_or_a_model(torch):
    made = {name: kg.from_torch(module_of(torch, name)[0]) for name in MODULES}
    kinds = {name: type(layer).__name__ for name, layer in made.items() if "both" not in name}
    assert kinds == {
        "rnn": "GatedRNN",
        "rnn relu": "GatedRNN",
        "lstm": "GatedLSTM",
        "gru": "GatedGRU",
        "gru without bias": "GatedGRU",
        "three lstm": "Sequential",
        "lstm projected": "GatedLSTM",
        "two lstm projected": "Sequential",
    }
    layers = made["three lstm"].layers
    names = ["GatedLSTM", "Dropout", "GatedLSTM", "Dropout", "GatedLSTM"]
    assert [type(one).__name__ for one in layers] == names and layers[1].rate == 0.3
    kinds = [type(one) for one in made["two gru both ways"].layers]
    assert kinds == [LAYERS.Bidirectional, LAYERS.Bidirectional]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", ["gru", "three lstm", "lstm both ways", "two lstm projected"])
def test_torch_modules_in_float64_and_time_first(torch, name):
    module, x = module_of(torch, name, "float64", batch_first=False)
    layer = kg.from_torch(module)
    with torch.no_grad():
        expected = module(x.transpose(0, 1))[0].transpose(0, 1).numpy()
    actual = layer(x.numpy())
    assert keras.backend.standardize_dtype(actual.dtype) == "float64"
    assert_close(actual, expected, f"keras {FINEST}", name)


# What is refused

ONE_OF = "`layer`...Received: "


class MyLSTM(LAYERS.LSTM):
    pass


class MyGated(kg.GatedLSTM):
    pass


class MyCell(LAYERS.GRUCell):
    pass


class MyModel(keras.Model):
    def call(self, x):
        return x


def half_built():
    return keras.Sequential([drawn(LAYERS.LSTM(U))], name="model")


REFUSED = {
    "number": (
        lambda: kg.from_keras(3),
        ONE_OF + "3",
        TypeError,
    ),
    "cell": (
        lambda: kg.from_keras(LAYERS.LSTMCell(U, name="cell")),
        ONE_OF + "LSTMCell 'cell'...not recurrent",
    ),
    "dense": (
        lambda: kg.to_keras(LAYERS.Dense(U, name="dense")),
        ONE_OF + "Dense 'dense'...not recurrent",
    ),
    "subclass": (
        lambda: kg.from_keras(MyLSTM(U, name="mine")),
        ONE_OF + "MyLSTM 'mine'...subclass",
    ),
    "gated subclass": (
        lambda: kg.to_keras(MyGated(U, name="mine")),
        ONE_OF + "MyGated 'mine'...subclass",
    ),
    "another cell": (
        lambda: kg.from_keras(LAYERS.RNN(MyCell(U), name="rnn")),
        ONE_OF + "RNN 'rnn'...MyCell...CellSpec...set_block_weights",
    ),
    "another cell in a stack": (
        lambda: kg.from_keras(LAYERS.RNN([LAYERS.GRUCell(U), MyCell(U)], name="rnn")),
        ONE_OF + "RNN 'rnn'...MyCell",
    ),
    "convolution": (
        lambda: kg.from_keras(LAYERS.ConvLSTM1D(U, 3, name="conv")),
        ONE_OF + "ConvLSTM1D 'conv'...subclass",
    ),
    "weighted activation": (
        lambda: kg.from_keras(drawn(LAYERS.GRU(U, activation=weighted(), name="gru"))),
        ONE_OF + "GRU 'gru'...activation...weights",
    ),
    "dropout in a stack": (
        lambda: kg.from_keras(
            LAYERS.RNN([LAYERS.GRUCell(U, dropout=0.5, name="cell")], name="rnn")
        ),
        ONE_OF + "RNN 'rnn'...GRUCell 'cell'...dropout=0.5...GatedRNN",
    ),
    "subclassed model": (
        lambda: kg.from_keras(MyModel(name="mine")),
        ONE_OF + "MyModel 'mine'...subclass",
    ),
    "model half built": (
        lambda: kg.from_keras(half_built()),
        ONE_OF + "Sequential 'model', not built",
    ),
    "no forget gate": (
        lambda: kg.to_keras(kg.GatedLSTM(U, forget_gate=False, name="nfg")),
        "`layer`...keras.layers.LSTM...GatedLSTM 'nfg'...`cₜ = cₜ₋₁ + iₜ ⊙ c\u0303ₜ`...lacks "
        "`forget kernel`, `forget recurrent_kernel`, `forget bias`, "
        "`fₜ = σ(W_f xₜ + U_f hₜ₋₁ + b_f)`, "
        "`cₜ = fₜ ⊙ cₜ₋₁ + iₜ ⊙ c\u0303ₜ`",
    ),
    "peephole": (
        lambda: kg.to_keras(kg.GatedLSTM(U, peephole=True)),
        "`input peephole`, `forget peephole`, `output peephole`, ",
    ),
    "other output": (
        lambda: kg.to_keras(kg.GatedLSTM(U, output_activation="relu")),
        "`hₜ = oₜ ⊙ relu(cₜ)`...lacks `hₜ = oₜ ⊙ tanh(cₜ)`",
    ),
    "no second bias": (
        lambda: kg.to_keras(
            kg.GatedRNN(
                U,
                replace(
                    kg.preset("gru"),
                    candidate=kg.Candidate(reset_after=True, use_recurrent_bias=False),
                ),
            )
        ),
        "`forget recurrent_bias`",
    ),
    "writes": (lambda: kg.to_keras(kg.GatedRNN(U, "gru_chung")), "lacks `forget kernel`"),
    "leaky": (
        lambda: kg.to_keras(kg.GatedRNN(U, kg.CellSpec(memory="hidden", forget_gate=0.9))),
        "`layer`...keras.layers.GRU...GatedRNN",
    ),
    "in a stack": (
        lambda: kg.to_keras(LAYERS.RNN([kg.GatedCell(U), kg.GatedCell(U, "nog", name="cell")])),
        "`layer`...keras.layers.LSTM...GatedCell 'cell'",
    ),
}


def weighted():
    activation = LAYERS.PReLU()
    activation.build((None, U))
    return activation


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused(name):
    raises(*REFUSED[name])


def test_torch_modules_that_are_none_or_of_another_kind_are_refused(torch, monkeypatch):
    must = "`module`...torch.nn.RNN, torch.nn.LSTM or torch.nn.GRU...Received: "

    class Mine(torch.nn.GRU):
        pass

    for wrong in (Mine(F, U), torch.nn.LSTMCell(F, U), torch.nn.Linear(F, U), kg.GatedLSTM(U), 3):
        text = f"{must}{type(wrong).__name__}...module inside"
        raises(lambda wrong=wrong: kg.from_torch(wrong), text, TypeError)
    monkeypatch.delitem(sys.modules, "torch")
    raises(lambda: kg.from_torch(3), f"{must}int", TypeError)


def test_an_option_that_keras_lacks_is_not_lost():
    layer = kg.GatedLSTM(4, zoneout=0.1, state_clip=2.0, name="noisy")
    raises(lambda: kg.to_keras(layer), "GatedLSTM 'noisy'...zoneout=0.1, state_clip=2.0")
