"""Saved, reloaded, rebuilt from its configuration: the same layer, to the last bit."""

import dataclasses
import json
import pickle
import zipfile
from copy import deepcopy
from dataclasses import dataclass, field
from inspect import Parameter, signature

import keras
import numpy as np
import pytest
from packaging.version import Version

import keras_gated as kg
from keras_gated.spec.config import FORMAT, Part
from keras_gated.spec.options import OPTIONS
from tests import ROOT
from tests.helpers import B, F, T, U, assert_close, raises
from tests.reference import WITNESSES


@keras.saving.register_keras_serializable("keras_gated_tests")
def bent(x):
    """An activation that no table knows."""
    return keras.ops.tanh(x) + 0.1 * x


CONSTANT = keras.initializers.Constant(0.5)
CUSTOM = kg.CellSpec(
    forget_gate=kg.Gate(recurrent_kernel="diagonal", peephole=True, bias_initializer="ones"),
    input_gate=kg.Tied("forget", complement=True, offset=-0.5),
    output_gate=0.7,
    candidate=kg.Candidate(activation="softsign"),
    output_activation="half_tanh",
    memory_activation="tanh",
    input_projection=kg.Projection("tanh"),
    input_window=3,
)
LAYERS = {
    "lstm": lambda: kg.GatedLSTM(U),
    "gru": lambda: kg.GatedGRU(U),
    "lstm tied": lambda: kg.GatedLSTM(
        U, input_gate=kg.Tied("forget", complement=True), peephole=True, output_gate=0.8
    ),
    "lstm cut": lambda: kg.GatedLSTM(
        U, forget_gate=False, output_gate=kg.Gate(kernel=None, activation="hard_sigmoid")
    ),
    "lstm no forget bias": lambda: kg.GatedLSTM(
        U, unit_forget_bias=False, output_activation="relu"
    ),
    "gru tied": lambda: kg.GatedGRU(U, reset_gate=kg.Tied("forget"), reset_after=False),
    "gru constant": lambda: kg.GatedGRU(U, update_gate=0.3, use_bias=False),
    "gru overwrite": lambda: kg.GatedGRU(U, update_gate=False),
    "gru no reset": lambda: kg.GatedGRU(U, reset_gate=False),
    "custom": lambda: kg.GatedRNN(U, CUSTOM),
    "function": lambda: kg.GatedLSTM(U, activation=keras.ops.tanh, recurrent_activation="relu"),
    "keras function": lambda: kg.GatedGRU(U, activation=keras.activations.softsign),
    "registered": lambda: kg.GatedLSTM(U, activation=bent, output_activation=bent),
    "registered in a gate": lambda: kg.GatedLSTM(U, input_gate=kg.Gate(activation=bent)),
    "initializer in a gate": lambda: kg.GatedLSTM(
        U, forget_gate=kg.Gate(bias_initializer=CONSTANT)
    ),
    "own initializer": lambda: kg.GatedGRU(
        U, update_gate=kg.Gate(bias_initializer=kg.ForgetBias(2.0))
    ),
    "all of Keras's": lambda: kg.GatedLSTM(
        U,
        kernel_initializer=keras.initializers.HeNormal(seed=1),
        bias_regularizer="l2",
        recurrent_constraint=keras.constraints.MaxNorm(1.5),
        dropout=0.1,
        recurrent_dropout=0.2,
        seed=3,
        go_backwards=True,
        zero_output_for_mask=True,
        dtype="mixed_bfloat16",
    ),
}
layers = pytest.mark.parametrize("key", LAYERS)


def reloaded(model, path):
    model.save(path)
    return keras.saving.load_model(path, safe_mode=True)


def check_round_trip(layer, path, features=F):
    """Saves a model of the layer in safe mode and asserts the same numbers, bit by bit."""
    x = np.random.default_rng(4).standard_normal((B, T, features)).astype("float32")
    model = keras.Sequential([keras.Input((None, features)), layer])
    other = reloaded(model, path / "model.keras")
    assert [w.name for w in other.weights] == [w.name for w in model.weights]
    for old, new in zip(model.get_weights(), other.get_weights(), strict=True):
        assert_close(new, old, "reload", "weight")
    assert_close(other(x), model(x), "reload", "outputs")
    return other.layers[0]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("names", [list(kg.presets)[k::6] for k in range(6)], ids="-".join)
def test_preset_round_trip(names, tmp_path):
    """Every sixth preset in a model, so that six files are written and not one for each."""
    inputs = {n: keras.Input((None, n)) for n in (F, U)}
    outputs = [
        kg.GatedRNN(U, name, return_sequences=True, name=name)(
            inputs[U if WITNESSES[name].square else F]
        )
        for name in names
    ]
    model = keras.Model(list(inputs.values()), outputs)
    other = reloaded(model, tmp_path / "model.keras")
    rng = np.random.default_rng(4)
    x = [rng.standard_normal((B, T, n)).astype("float32") for n in inputs]
    for name, found, expected in zip(names, other(x), model(x), strict=True):
        layer, again = model.get_layer(name), other.get_layer(name)
        assert [w.name for w in again.weights] == [w.name for w in layer.weights]
        for old, new in zip(layer.get_weights(), again.get_weights(), strict=True):
            assert_close(new, old, "reload", f"{name}: weight")
        assert_close(found, expected, "reload", f"{name}: outputs")
        assert again.get_config() == layer.get_config()


@pytest.mark.sampled(5)
@layers
def test_layer_round_trip(key, tmp_path):
    layer = LAYERS[key]()
    assert type(check_round_trip(layer, tmp_path)) is type(layer)


@pytest.mark.parametrize("key", ["lstm cut", "gru", "custom"])
def test_weights_alone_in_a_file(key, tmp_path):
    """Into a model that was made anew, and not into one of another cell."""
    models = [keras.Sequential([keras.Input((T, F)), LAYERS[key]()]) for _ in range(2)]
    x = np.random.default_rng(0).standard_normal((B, T, F)).astype("float32")
    models[0].save_weights(tmp_path / "model.weights.h5")
    models[1].load_weights(tmp_path / "model.weights.h5")
    assert_close(models[1](x), models[0](x), "reload", key)
    other = keras.Sequential([keras.Input((T, F)), kg.GatedRNN(U + 1, "elman")])
    with pytest.raises(ValueError, match=r"filepath|shape|variables"):
        other.load_weights(tmp_path / "model.weights.h5")


@layers
def test_from_config_gives_an_equal_layer(key):
    layer = LAYERS[key]()
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.spec == layer.spec
    assert again.cell.form == layer.cell.form


@pytest.mark.parametrize("name", list(kg.presets))
def test_preset_from_config_gives_the_same_specification(name):
    for layer in (kg.GatedRNN(U, name), kg.GatedCell(U, name)):
        again = type(layer).from_config(layer.get_config())
        assert again.spec == layer.spec
        assert again.get_config() == layer.get_config()


@layers
def test_config_is_json(key):
    config = LAYERS[key]().get_config()
    assert json.loads(json.dumps(config)) == config


def test_initial_biases_survive():
    layer = kg.GatedRNN.from_config(kg.GatedRNN(U, "cfn").get_config())
    layer.build((B, T, F))
    blocks = layer.block_weights()
    assert_close(blocks["forget"]["bias"], np.ones(U), "reload", "forget bias")
    assert_close(blocks["input"]["bias"], -np.ones(U), "reload", "input bias")


@pytest.mark.parametrize("key", ["lstm tied", "gru", "custom", "registered"])
def test_clone_model_and_bidirectional(key, tmp_path):
    inner = keras.layers.Bidirectional(LAYERS[key]())
    layer = check_round_trip(inner, tmp_path)
    assert layer.backward_layer.go_backwards and not layer.forward_layer.go_backwards
    model = keras.Sequential([keras.Input((T, F)), layer])
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    x = np.random.default_rng(4).standard_normal((B, T, F)).astype("float32")
    assert_close(clone(x), model(x), "reload", key)


def test_cell_in_a_stack_round_trip(tmp_path):
    stack = keras.layers.StackedRNNCells([kg.GatedCell(U, "mgu"), kg.GatedCell(4, CUSTOM_CELL)])
    check_round_trip(keras.layers.RNN(stack), tmp_path)


CUSTOM_CELL = kg.CellSpec(memory="hidden", input_gate=kg.Gate(None, None), forget_gate=0.5)


@pytest.mark.parametrize("part", [CUSTOM, CUSTOM.forget_gate, CUSTOM.input_gate, CUSTOM.candidate])
def test_part_of_a_newer_format_is_refused(part):
    config = part.to_config()
    assert type(part).from_config(config) == part
    later = FORMAT + 1
    with pytest.raises(ValueError, match=f"format {FORMAT}.*format.*{later}"):
        type(part).from_config(config | {"format": later})
    with pytest.raises(ValueError, match="later.*upgrade keras_gated"):
        type(part).from_config(config | {"later": 1})


def test_only_what_differs_from_the_default_is_in_the_configuration():
    """So an older version can read it, as long as nothing new is used."""
    head = {"part": "CellSpec", "format": 1}
    assert kg.CellSpec().to_config() == head
    assert kg.CellSpec(output_gate=True, forget_gate=kg.Gate()).to_config() == head
    assert kg.CellSpec(memory="hidden").to_config() == head | {"memory": "hidden"}
    gate = {"part": "Gate", "format": 1, "peephole": True}
    spec = kg.CellSpec(memory="cell", output_gate=1.0, forget_gate=kg.Gate(peephole=True))
    assert spec.to_config() == head | {"output_gate": 1.0, "forget_gate": gate}
    tied = {"part": "Tied", "format": 1, "to": "reset", "complement": True}
    assert kg.Tied("reset", complement=True).to_config() == tied


def test_a_newer_format_only_where_something_new_is_used():
    @dataclass(frozen=True)
    class LaterGate(Part):
        old: float = 1.0
        new: str | None = field(default=None, metadata={"format": 2})

    assert LaterGate(2.0).to_config() == {"part": "LaterGate", "format": 1, "old": 2.0}
    assert LaterGate(new="a").to_config() == {"part": "LaterGate", "format": 2, "new": "a"}


@pytest.mark.parametrize("name", [*kg.presets])
def test_a_configuration_of_0_1_has_every_field_and_is_read(name):
    spec = kg.preset(name)

    def in_full(part):
        fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        values = {k: in_full(v) if isinstance(v, Part) else v for k, v in fields.items()}
        return {"part": type(part).__name__, "format": 1, **values}

    assert kg.CellSpec.from_config(in_full(spec)) == spec
    assert kg.CellSpec.from_config(json.loads(json.dumps(spec.to_config()))) == spec


def test_config_of_another_part_is_refused():
    tied = kg.Tied("forget").to_config()
    raises(lambda: kg.Gate.from_config(tied), f"Gate.to_config()...config={tied}")


FIXTURES = sorted((ROOT / "tests/fixtures").glob("format_*.keras"))


@pytest.mark.parametrize("file", FIXTURES, ids=lambda file: file.stem)
def test_a_file_of_an_earlier_version_loads(file):
    """Written by tests/fixtures/make.py when its format was new."""
    with zipfile.ZipFile(file) as archive:
        written = json.loads(archive.read("metadata.json"))["keras_version"]
    if Version(keras.__version__) < Version(written):
        pytest.skip(f"it was written by Keras {written}, which saves more")
    model = keras.models.load_model(file)
    numbers = np.load(file.with_suffix(".npz"))
    assert_close(model(numbers["x"]), numbers["y"], "keras float32", file.stem)


def test_every_format_has_such_a_file():
    assert [file.stem for file in FIXTURES] == [f"format_{n + 1}" for n in range(FORMAT)]


# Every argument is in the configuration ---------------------------------------------------------

VALUES = {  # one of each argument that is not its default
    # of keras.layers.Layer
    "name": "another",
    "trainable": False,
    "dtype": keras.DTypePolicy("mixed_bfloat16"),
    "activity_regularizer": keras.regularizers.L2(0.11),
    # of keras.layers.RNN
    "return_sequences": True,
    "return_state": True,
    "go_backwards": True,
    "stateful": True,
    "unroll": True,
    "zero_output_for_mask": True,
    # of every cell
    "units": U + 1,
    "spec": kg.preset("lstm_peephole"),
    "activation": "softsign",
    "recurrent_activation": "hard_sigmoid",
    "output_activation": "relu",
    "use_bias": False,
    "kernel_initializer": keras.initializers.Constant(0.01),
    "recurrent_initializer": keras.initializers.Constant(0.02),
    "bias_initializer": keras.initializers.Constant(0.03),
    "peephole_initializer": keras.initializers.Constant(0.04),
    "diagonal_initializer": keras.initializers.Constant(0.05),
    "kernel_regularizer": keras.regularizers.L1(0.06),
    "recurrent_regularizer": keras.regularizers.L1(0.07),
    "bias_regularizer": keras.regularizers.L1(0.08),
    "kernel_constraint": keras.constraints.MaxNorm(1.1),
    "recurrent_constraint": keras.constraints.MaxNorm(1.2),
    "bias_constraint": keras.constraints.MaxNorm(1.3),
    "dropout": 0.11,
    "recurrent_dropout": 0.12,
    "candidate_dropout": 0.13,
    "zoneout": 0.14,
    "weight_noise": 0.15,
    "state_clip": 1.6,
    "layer_norm": True,
    "batch_norm": True,
    "projection_units": U - 1,
    "seed": 17,
    # of a layer
    "time_parallel": "auto",
    "unit_forget_bias": False,
    "input_gate": 0.21,
    "forget_gate": kg.Gate("diagonal", bias_initializer="zeros"),
    "output_gate": kg.Gate(activation="relu"),
    "peephole": True,
    "update_gate": kg.Gate(recurrent_kernel=None),
    "reset_gate": kg.Tied("forget"),
}


def own(kind) -> set:
    """Names of the arguments that stand in the signature."""
    rows = list(signature(kind.__init__).parameters.values())[1:]
    return {row.name for row in rows if row.kind is not Parameter.VAR_KEYWORD}


# Also through **kwargs. Keras itself saves autocast of no layer. What else is left out can have no
# value in that class that would have an effect.
OF_LAYER = own(keras.layers.Layer) - {"autocast"}
OF_CELL = own(kg.GatedCell) | set(OPTIONS) | OF_LAYER
OF_RNN = own(kg.GatedRNN) | OF_CELL | own(keras.layers.RNN) - {"cell"}
TAKEN = {
    kg.GatedCell: OF_CELL,
    kg.GatedRNN: OF_RNN,
    kg.GatedLSTM: own(kg.GatedLSTM) | OF_RNN - {"spec", "reset_after"},
    kg.GatedGRU: own(kg.GatedGRU) | OF_RNN - {"spec", "output_activation", "projection_units"},
}


@pytest.mark.parametrize("kind", TAKEN)
def test_every_argument_is_in_the_configuration(kind):
    """One at a time, as it was given, and again so in a layer made of the configuration."""
    default = kind(U).get_config()
    for name in sorted(TAKEN[kind]):
        # It is the reset gate's: True in a GRU, where there is one, and False elsewhere.
        value = VALUES[name] if name != "reset_after" else not default[name]
        config = kind(**{"units": U, name: value}).get_config()
        to_json_value = keras.saving.serialize_keras_object
        plain = value.to_config() if isinstance(value, Part) else to_json_value(value)
        assert config[name] == plain != default.get(name), name
        again = kind.from_config(json.loads(json.dumps(config)))
        assert again.get_config() == config, name


def test_the_table_has_every_argument():
    assert VALUES.keys() | {"reset_after"} == set().union(*TAKEN.values())


# Copied and pickled -----------------------------------------------------------------------------

COPIED = {  # ours, and Keras's own
    "lstm": (kg.GatedLSTM, keras.layers.LSTM, {"recurrent_dropout": 0.4, "seed": 3}),
    "gru": (kg.GatedGRU, keras.layers.GRU, {"activity_regularizer": "l2"}),
    "cell": (kg.GatedCell, keras.layers.LSTMCell, {}),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("copied", [deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("key", COPIED)
def test_a_lone_layer_is_copied_and_pickled(key, built, copied):
    """As Keras's own is: before and after it has weights, which are then its own."""
    *makers, arguments = COPIED[key]
    rng = np.random.default_rng(2)
    x = rng.standard_normal((B, F) if key == "cell" else (B, T, F)).astype("float32")
    given = [rng.standard_normal((2, B, U)).astype("float32")] if key == "cell" else []
    for make in makers:
        layer = make(U, **arguments)
        if built:
            layer.build(x.shape)
            layer.set_weights([rng.standard_normal(w.shape) for w in layer.get_weights()])
        twin = copied(layer)
        assert type(twin) is make and twin.built == built
        assert twin.get_config() == layer.get_config()
        if not built:
            for one in (layer, twin):
                one.build(x.shape)
            twin.set_weights(layer.get_weights())
        for old, new in zip(layer.get_weights(), twin.get_weights(), strict=True):
            assert_close(new, old, "reload", "weight")
        found = [keras.tree.flatten(one(x, *given, training=True)) for one in (layer, twin)]
        for expected, actual in zip(*found, strict=True):
            assert_close(actual, expected, "reload", key)
        expected = layer.get_weights()
        twin.set_weights([w + 1.0 for w in expected])
        for old, new in zip(expected, layer.get_weights(), strict=True):
            assert_close(new, old, "reload", "weights of its own")
