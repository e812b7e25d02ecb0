"""Whole models to ONNX and back through onnxruntime: the file does what the model does."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.tracing.choice import choose
from keras_gated.onnx.verify.check import check_onnx
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.parts import Candidate, Gate, Tied
from tests.helpers import OTHERS, TYPICAL
from tests.spec.test_onnx_operator import OPERATOR

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export runs on Keras's TensorFlow backend"
)
F, U = 3, 5
NATIVE = ("LSTM", "GRU", "RNN")


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "model.onnx")


def randomized(model, seed=0, scale=0.5):
    """The model with random weights everywhere: zero biases and peepholes hide mistakes."""
    rng = np.random.default_rng(seed)
    drawn = [scale * rng.standard_normal(w.shape) for w in model.get_weights()]
    pairs = zip(drawn, model.weights, strict=True)
    model.set_weights([np.abs(array) if "variance" in w.path else array for array, w in pairs])
    return model


def functional(*layers, features=F, name="x"):
    x = y = keras.Input((None, features), name=name)
    for layer in layers:
        y = layer(y)
    return randomized(keras.Model(x, y))


def native_nodes(file: str) -> int:
    return sum(count for name, count in count_operators(file).items() if name in NATIVE)


def count_operators(file: str) -> dict:
    counts: dict = {}
    graphs = [onnx.load(file).graph]
    while graphs:
        for node in graphs.pop().node:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
            graphs += [a.g for a in node.attribute if a.HasField("g")]
    return counts


def exported(model, path, nodes: int, **arguments):
    """Exports, and asserts that there are so many native nodes and no Loop, and that they agree."""
    report = export_onnx(model, path, **arguments)
    assert native_nodes(path) == nodes, report
    assert "Loop" not in report.operators and "Scan" not in report.operators
    assert report.largest_difference <= 1e-5
    return report


def run(path: str, *arrays) -> list:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def assert_same(model, path: str, *arrays):
    """The file and the model agree on these inputs."""
    outputs = model(arrays[0] if len(arrays) == 1 else list(arrays), training=False)
    found = run(path, *arrays)
    outputs = keras.tree.flatten(outputs)
    assert len(found) == len(outputs)
    for a, b in zip(found, outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# Every preset -----------------------------------------------------------------------------------

GROUPS = {f"typical {k}": TYPICAL[k::4] for k in range(4)}  # several in a model
FAMILIES = {
    family: [name for name in OTHERS if kg.presets[name].family == family]
    for family in sorted({kg.presets[name].family for name in OTHERS})
}
MORE = [
    pytest.param(names, lowering, marks=pytest.mark.long)
    for names, lowering in [
        (GROUPS["typical 1"], "scan"),
        *((n, "auto") for n in FAMILIES.values()),
    ]
]


def presets_in_groups(always: int):
    """All of them, of which so many groups of the typical ones always run."""
    cases = [(names, "auto") for names in GROUPS.values()]
    later = [pytest.param(*case, marks=pytest.mark.long) for case in cases[always:]]
    ids = [*GROUPS, "typical 1 as scan", *FAMILIES]
    return pytest.mark.parametrize(("names", "lowering"), [*cases[:always], *later, *MORE], ids=ids)


def error_bound(y32, y64) -> np.ndarray:
    """What a file may differ by: 2e-6 of max(1, |y|), or 4 times what Keras's float32 does."""
    y64 = np.asarray(y64, "float64")
    own = np.abs(np.asarray(y32, "float64") - y64).max(initial=0.0)
    return np.maximum(2e-6 * np.maximum(1.0, np.abs(y64)), 4 * own)


class SideBySide(keras.Model):
    """Hands every layer the same input and mask; built without a symbolic call, which is slow."""

    def __init__(self, layers, features, dtype="float32"):
        super().__init__(dtype=dtype)
        self.held = layers
        for layer in layers:
            layer.build((None, None, features))
        self.built = True

    def call(self, inputs):
        x, mask = inputs if isinstance(inputs, list) else (inputs, None)
        found = [keras.tree.flatten(layer(x, mask=mask)) for layer in self.held]
        return [y for ys in found for y in ys]


X_SPEC = keras.InputSpec(shape=(None, None, U), dtype="float32")


@presets_in_groups(always=4)
def test_every_preset(names, lowering, path):
    # As many features as units: two presets need it.
    layers = [kg.GatedRNN(U, name, return_sequences=True, name=name) for name in names]
    model = randomized(SideBySide(layers, U))
    signature = {"input_signature": X_SPEC}
    report = export_onnx(model, path, verify=False, lowering=lowering, **signature)
    native = OPERATOR if lowering == "auto" else {}
    assert {layer.name: layer.operator for layer in report.layers} == {
        name: native.get(name, "Scan") for name in names
    }
    assert native_nodes(path) == sum(name in native for name in names)
    assert report.operators.get("Scan", 0) == sum(name not in native for name in names)
    assert "Loop" not in report.operators
    parity = check_onnx(model, path, seed=3, **signature)
    assert parity.passed and len({found.output for found in parity.outputs}) == len(names)
    assert parity.largest_difference < 5e-6
    assert len({found.shape for found in parity.outputs}) == 3


@presets_in_groups(always=2)
def test_every_preset_under_masks(names, lowering, path):
    def made(dtype):
        layers = [
            kg.GatedRNN(U, name, return_sequences=True, return_state=True, dtype=dtype)
            for name in names
        ]
        return randomized(SideBySide(layers, U, dtype))

    model, finer = made("float32"), made("float64")
    signature = [X_SPEC, keras.InputSpec(shape=(None, None), dtype="bool")]
    export_onnx(model, path, verify=False, lowering=lowering, input_signature=signature)
    rng = np.random.default_rng(2)
    for batch, time in ((6, 6), (6, 1), (1, 5), (3, 14)):
        mask = MASKS[:batch, :time] if time < 9 else rng.random((batch, time)) < 0.6
        x = rng.standard_normal((batch, time, U))
        y32, y64 = (
            keras.tree.flatten(m([x.astype(d), mask], training=False))
            for m, d in ((model, "float32"), (finer, "float64"))
        )
        for found, a, b in zip(run(path, x.astype("float32"), mask), y32, y64, strict=True):
            assert (np.abs(found - np.asarray(a)) <= error_bound(a, b)).all()


SPECS = {
    "hard sigmoid, coupled": CellSpec(
        input_gate=Tied("forget", complement=True, offset=0.3), recurrent_activation="hard_sigmoid"
    ),
    "uncoupled, one state": CellSpec(memory="hidden", output_gate=None),
    "constant reset": CellSpec(
        memory="hidden", input_gate=Tied("forget", complement=True), reset_gate=0.25
    ),
    "reset after, tied": CellSpec(
        memory="hidden",
        input_gate=Tied("forget", complement=True),
        reset_gate=Tied("forget", offset=0.5),
        candidate=Candidate(reset_after=True),
    ),
    "bistable, reset after": CellSpec(
        memory="hidden",
        input_gate=Tied("forget", complement=True),
        reset_gate=Gate(activation="one_plus_tanh"),
        candidate=Candidate(reset_after=True),
    ),
    "output tied": CellSpec(output_gate=Tied("input", complement=True, offset=0.2)),
    "linear gates": CellSpec(
        input_gate=Tied("forget", complement=True, offset=0.1), recurrent_activation="linear"
    ),
    "constants beyond 1": CellSpec(input_gate=0.5, forget_gate=1.1, output_gate=0.7),
    "gelu outside": CellSpec(
        candidate=Candidate(recurrent_kernel=None, activation="gelu"), output_activation="tanh"
    ),
    "bias only": CellSpec(
        candidate=Candidate(kernel=None, recurrent_kernel=None, activation="gelu"),
        output_activation="softsign",
    ),
    "complement outside": CellSpec(
        memory="hidden",
        input_gate=Tied("forget", complement=True, offset=0.4),
        forget_gate=Gate(recurrent_kernel=None, activation="tanh"),
        candidate=Candidate(recurrent_kernel=None),
    ),
    "everything diagonal": CellSpec(
        input_gate=Gate("diagonal", "diagonal", peephole=True),
        forget_gate=Gate("identity", "identity"),
        candidate=Candidate("diagonal", "identity"),
    ),
}


def test_specifications_beyond_the_presets(path):
    x = keras.Input((None, U), name="x")
    layers = [
        kg.GatedRNN(U, spec, return_sequences=True, name=name.replace(" ", "_").replace(",", ""))
        for name, spec in SPECS.items()
    ]
    # Linear gates grow without bound, and rounding with them, unless the weights are small.
    model = randomized(keras.Model(x, [layer(x) for layer in layers]), scale=0.25)
    report = exported(model, path, len(SPECS), lowering="native")
    assert all(layer.operator in NATIVE for layer in report.layers)


def test_faces_and_stock_numbers(path):
    x = keras.Input((None, F), name="x")
    layers = [
        kg.GatedLSTM(U, forget_gate=False, name="no_forget"),
        kg.GatedLSTM(U, peephole=True, use_bias=False, name="no_bias"),
        kg.GatedLSTM(U, activation="relu", output_activation="tanh", name="relu"),
        kg.GatedGRU(U, reset_after=False, name="before"),
        kg.GatedGRU(U, update_gate=0.25, name="constant_update"),
        kg.GatedGRU(U, update_gate=False, reset_gate=False, name="rnn"),
    ]
    model = randomized(keras.Model(x, [layer(x) for layer in layers]))
    report = exported(model, path, len(layers))
    assert [layer.operator for layer in report.layers] == ["LSTM"] * 3 + ["GRU"] * 2 + ["RNN"]


def stock(**more) -> list:
    """Keras's own layers, set in other ways than by default."""
    kinds, own = keras.layers, {"return_sequences": True, **more}
    return [
        kinds.LSTM(U, recurrent_activation="hard_sigmoid", **own),
        kinds.LSTM(U, use_bias=False, activation="relu", **own),
        kinds.GRU(U, **own),
        kinds.GRU(U, reset_after=False, use_bias=False, **own),
        kinds.SimpleRNN(U, activation="relu", **own),
        kinds.RNN(kg.GatedCell(U, "mgu"), **own),
        kinds.RNN(kinds.StackedRNNCells([kg.GatedCell(4, "cfn"), kinds.LSTMCell(U)]), **own),
    ]


@pytest.mark.parametrize("backwards", [False, True])
def test_keras_own_layers(backwards, path):
    layers = stock(return_state=True, go_backwards=backwards)
    x, mask = keras.Input((None, F), name="x"), keras.Input((None,), dtype="bool", name="mask")
    model = keras.Model([x, mask], [layer(x, mask=mask) for layer in layers])
    report = export_onnx(randomized(model, scale=0.3), path, verify=False)
    assert [layer.operator for layer in report.layers] == [
        *["LSTM"] * 2,
        *["GRU"] * 2,
        *["RNN", "GRU", "Scan", "LSTM"],
    ]
    assert report.layers[-1].name.endswith("/cell_2")
    assert report.layers[2].trainable_weights == layers[2].count_params()
    values = np.random.default_rng(1).standard_normal((*MASKS.shape, F)).astype("float32")
    assert_same(model, path, values, MASKS)
    assert_same(model, path, values[:2, :1], MASKS[:2, :1])
    # The layers are as before.
    assert not any("inner_loop" in vars(layer) for layer in layers)


# Masks ------------------------------------------------------------------------------------------

MASKS = np.array(
    [
        [1, 1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 1],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 0, 1, 1, 0, 1],
    ],
    bool,
)


class Masked(keras.Layer):
    """Hands every layer the same mask, given as an input; nothing but public Keras."""

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.layers = layers

    def build(self, shapes):
        for layer in self.layers:
            layer.build(shapes[0])

    def call(self, inputs):
        x, mask, *states = inputs
        outputs = []
        for layer in self.layers:
            initial = [*states[: len(layer.cell.form.states)]]
            if initial and layer.cell.form.window > 1:
                initial.append(0.5 * x[:, 0])  # the input before the first, of any value
            outputs += layer(x, mask=mask, initial_state=initial or None)
        return outputs


MASKED = [  # name, return_sequences, go_backwards, zero_output_for_mask
    ("lstm", True, False, False),
    ("lstm", True, True, True),
    ("lstm", False, False, True),
    ("gru", True, False, True),
    ("gru", True, True, False),
    ("gru", False, True, False),
    ("elman", True, False, False),
    ("janet", True, True, False),
    ("minimal_rnn", False, True, True),
    ("t_lstm", True, True, False),
]


@pytest.mark.parametrize("initial", [pytest.param(False, marks=pytest.mark.long), True])
def test_masks_of_every_kind(initial, path):
    layers = [
        kg.GatedRNN(
            U,
            name,
            return_sequences=sequences,
            return_state=True,
            go_backwards=backwards,
            zero_output_for_mask=zero,
        )
        for name, sequences, backwards, zero in MASKED
    ]
    x = keras.Input((None, F), name="x")
    mask = keras.Input((None,), dtype="bool", name="mask")
    states = [keras.Input((U,), name=name) for name in "hc"] if initial else []
    model = randomized(keras.Model([x, mask, *states], Masked(layers)([x, mask, *states])))
    export_onnx(model, path, verify=False, lowering="native")
    counts = count_operators(path)
    assert "Loop" not in counts and "Scan" not in counts
    # Two of them run over the same input in opposite directions, and are one node.
    assert native_nodes(path) == len(layers) - 1
    rng = np.random.default_rng(1)
    given = [rng.standard_normal((len(MASKS), U)).astype("float32") for _ in states]
    values = rng.standard_normal((*MASKS.shape, F)).astype("float32")
    assert_same(model, path, values, MASKS, *given)
    assert_same(model, path, values[:1, :1], MASKS[:1, :1], *[s[:1] for s in given])
    assert_same(model, path, values[3:4, :1], MASKS[3:4, :1], *[s[:1] for s in given])


def test_mask_of_an_embedding_through_a_bidirectional_stack(path):
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    y = keras.layers.Embedding(7, F, mask_zero=True)(tokens)
    y = keras.layers.Bidirectional(kg.GatedGRU(U, return_sequences=True))(y)
    y = kg.GatedLSTM(4, name="top")(y)
    model = randomized(keras.Model(tokens, keras.layers.Dense(2, name="head")(y)))
    exported(model, path, 2)
    assert_same(model, path, np.array([[1, 2, 3, 0, 0], [0, 0, 4, 5, 0], [0] * 5], "int32"))


def test_masking_layer(path):
    model = functional(keras.layers.Masking(), kg.GatedRNN(U, "mgu"), keras.layers.Dense(2))
    exported(model, path, 1)


# Shapes of models -------------------------------------------------------------------------------


def test_stacked_with_names_and_dimensions(path):
    model = functional(
        kg.GatedLSTM(U, return_sequences=True, name="lower"),
        kg.GatedGRU(4, return_sequences=True, name="upper"),
        keras.layers.Dense(2, name="head"),
    )
    report = exported(model, path, 2)
    graph = onnx.load(path).graph
    assert (report.inputs, report.outputs) == (("x",), ("head",))
    shapes = [
        [d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim]
        for port in (*graph.input, *graph.output)
    ]
    assert shapes == [["batch", "time", F], ["batch", "time", 2]]
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    assert weights["lower/W"] == [1, 4 * U, F] and weights["upper/R"] == [1, 12, 4]
    assert weights["head/kernel"] == [4, 2]
    assert {"lower/LSTM", "upper/GRU"} <= {node.name for node in graph.node}
    assert [layer.name for layer in report.layers] == ["lower", "upper"]
    assert report.layers[0].weights_in_file == 4 * U * (F + U + 2)
    assert report.layers[0].trainable_weights == 4 * U * (F + U + 1)
    text = str(report)
    assert "lower  LSTM" in text and "opset 17" in text and "differs from Keras" in text


def test_bidirectional_is_one_node(path):
    model = functional(
        keras.layers.Bidirectional(kg.GatedRNN(U, "cifg", return_sequences=True), name="both"),
        keras.layers.Bidirectional(kg.GatedRNN(U, "gru_cho"), merge_mode="sum"),
    )
    report = exported(model, path, 2)
    assert sum(layer.name.startswith("both/forward_") for layer in report.layers) == 1
    graph = onnx.load(path).graph
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    assert weights["both/W"] == [2, 4 * U, F] and "both/LSTM" in {node.name for node in graph.node}


BOTH_WAYS = {  # the inner layer, merge_mode, zero_output_for_mask
    "lstm": (lambda **k: kg.GatedRNN(U, "lstm_peephole", **k), "concat", False),
    "gru": (lambda **k: kg.GatedGRU(U, reset_after=False, **k), "mul", True),
    "scaled": (lambda **k: kg.GatedRNN(U, "lstm_1997", **k), "ave", False),
    "keras": (lambda **k: keras.layers.LSTM(U, **k), None, True),
    "outside": (lambda **k: kg.GatedRNN(U, "minimal_rnn", **k), "concat", True),
    "scan": (lambda **k: kg.GatedRNN(U, "cfn", **k), "sum", False),
}


@pytest.mark.parametrize("initial", [pytest.param(False, marks=pytest.mark.long), True])
@pytest.mark.parametrize("masked", [pytest.param(False, marks=pytest.mark.long), True])
def test_bidirectional_with_masks_and_states(masked, initial, path):
    x, mask = keras.Input((None, F), name="x"), keras.Input((None,), dtype="bool", name="mask")
    given = [keras.Input((U,), name=f"s{k}") for k in range(4)] if initial else []
    outputs = []
    for make, merge, zero in BOTH_WAYS.values():
        inner = make(return_sequences=True, return_state=True, zero_output_for_mask=zero)
        layer = keras.layers.Bidirectional(inner, merge_mode=merge)
        sizes = inner.cell.state_size
        count = 2 * (len(sizes) if isinstance(sizes, list | tuple) else 1)
        arguments = {"initial_state": given[:count]} if initial else {}
        arguments |= {"mask": mask} if masked else {}
        outputs.append(layer(x, **arguments))
    inputs = [x, *([mask] if masked else []), *given]
    model = randomized(keras.Model(inputs if len(inputs) > 1 else x, outputs))
    report = export_onnx(model, path, verify=False)
    # What "outside" feeds its operator differs between the directions, so there it is two nodes.
    assert (native_nodes(path), report.operators["Scan"]) == (4 + 2, 2), report
    rng = np.random.default_rng(1)
    values = rng.standard_normal((*MASKS.shape, F)).astype("float32")
    states = [rng.standard_normal((len(MASKS), U)).astype("float32") for _ in given]
    for rows, time in ((slice(None), 6), (slice(2, 5), 1)):
        masks = [MASKS[rows, :time]] if masked else []
        assert_same(model, path, values[rows, :time], *masks, *[s[rows] for s in states])
    # The layers are as before.
    both = [layer for layer in model.layers if isinstance(layer, keras.layers.Bidirectional)]
    assert len(both) == len(BOTH_WAYS) and all(layer.return_sequences for layer in both)
    assert not any("in_time_order" in vars(layer.backward_layer) for layer in both)
    assert not any("compute_mask" in vars(layer) for layer in both)


def test_a_backward_layer_that_needs_the_forward_one_stays_apart(path):
    x = keras.Input((None, F), name="x")
    y, *states = kg.GatedLSTM(U, return_sequences=True, return_state=True, name="there")(x)
    back = kg.GatedLSTM(U, return_sequences=True, go_backwards=True, name="back")
    model = randomized(keras.Model(x, [y, back(x, initial_state=states)]))
    exported(model, path, 2)


def test_two_ways_over_one_input_are_one_node_also_without_bidirectional(path):
    x = keras.Input((None, F), name="x")
    there = kg.GatedLSTM(U, return_sequences=True, name="there")
    back = kg.GatedLSTM(U, return_sequences=True, go_backwards=True, name="back")
    model = randomized(keras.Model(x, [there(x), back(x)]))
    exported(model, path, 1)
    assert "there_back/LSTM" in {node.name for node in onnx.load(path).graph.node}


class Tagger(keras.Model):
    """A subclassed model, whose masks are computed as it runs."""

    def __init__(self):
        super().__init__()
        self.tokens = keras.layers.Embedding(7, F, mask_zero=True)
        self.both = keras.layers.Bidirectional(kg.GatedGRU(U, return_sequences=True))
        self.top = keras.layers.LSTM(U)

    def call(self, x):
        return self.top(self.both(self.tokens(x)))


def test_the_mask_goes_on_behind_a_bidirectional_of_a_subclassed_model(path):
    model, x = Tagger(), np.array([[1, 2, 3, 0, 0], [4, 0, 5, 0, 6], [0, 0, 1, 2, 0]], "int32")
    model(x)
    signature = keras.InputSpec(shape=(None, None), dtype="int32")
    export_onnx(randomized(model), path, input_signature=signature, verify=False)
    assert native_nodes(path) == 2
    assert_same(model, path, x)


def test_time_distributed(path):
    x = keras.Input((None, None, F), name="x")
    inner = keras.Sequential([keras.Input((None, F)), keras.layers.LSTM(U), keras.layers.Dense(4)])
    y = keras.layers.TimeDistributed(kg.GatedGRU(F, return_sequences=True))(x)
    y = keras.layers.TimeDistributed(inner)(y)
    model = randomized(keras.Model(x, kg.GatedRNN(U, "mgu", name="top")(y)))
    exported(model, path, 3)
    x = np.random.default_rng(1).standard_normal((2, 3, 4, F)).astype("float32")
    assert_same(model, path, x)


def test_shared_layer_stores_its_weights_once(path):
    a, b = keras.Input((None, F), name="a"), keras.Input((None, F), name="b")
    shared = kg.GatedRNN(U, "lstm_peephole", name="shared")
    model = randomized(keras.Model([a, b], keras.layers.Subtract()([shared(a), shared(b)])))
    exported(model, path, 2)
    graph = onnx.load(path).graph
    assert sum(tensor.name.endswith("/R") for tensor in graph.initializer) == 1
    assert {"shared/LSTM", "shared_2/LSTM"} <= {node.name for node in graph.node}
    assert [p.type.tensor_type.shape.dim[1].dim_param for p in graph.input] == ["time", "b_time"]


def test_nested_models_whose_layers_have_the_same_name(path):
    def encoder(kind):
        inner = keras.Input((None, F))
        return keras.Model(inner, kg.GatedRNN(U, kind, return_sequences=True, name="enc")(inner))

    x = keras.Input((None, F), name="x")
    inner = keras.Sequential([encoder("gru"), keras.layers.Dense(F)])
    model = keras.Model(x, keras.layers.Add()([encoder("gru")(x), encoder("gru")(inner(x))]))
    exported(randomized(model), path, 3)


def test_encoder_decoder_with_states(path):
    source, target = keras.Input((None, F), name="source"), keras.Input((None, 4), name="target")
    _, *states = kg.GatedLSTM(U, return_state=True, name="encoder")(source)
    decoder = kg.GatedLSTM(U, return_sequences=True, return_state=True, name="decoder")
    model = keras.Model([source, target], decoder(target, initial_state=states))
    report = exported(randomized(model), path, 2)
    assert report.outputs == ("decoder", "decoder_2", "decoder_3")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype("float32") for s in [(2, 4, F), (2, 11, 4)]]
    assert_same(model, path, *arrays)


def test_go_backwards_and_states_of_a_window(path):
    x = keras.Input((None, F), name="x")
    layers = [
        kg.GatedRNN(U, "t_gru", go_backwards=True, return_sequences=True, return_state=True),
        kg.GatedRNN(U, "t_lstm", return_state=True),
        kg.GatedRNN(U, "gru", go_backwards=True, return_state=True),
    ]
    model = randomized(keras.Model(x, [layer(x) for layer in layers]))
    exported(model, path, 3)


def test_sequential_and_dictionaries(path):
    model = keras.Sequential([keras.Input((None, F), name="roll"), kg.GatedRNN(U, "nfg")])
    report = exported(randomized(model), path, 1)
    assert report.inputs == ("roll",) and len(report.outputs) == 1
    x = {"b": keras.Input((None, F), name="b"), "a": keras.Input((None, F), name="a")}
    y = kg.GatedRNN(U, "mgu", return_sequences=True)(keras.layers.Subtract()([x["b"], x["a"]]))
    model = keras.Model(x, {"states": y, "class": keras.layers.Dense(2)(y)})
    report = exported(randomized(model), path, 1)
    assert report.inputs == ("a", "b") and report.outputs == ("class", "states")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.enc = kg.GatedRNN(U, "gru", return_sequences=True)
        self.parts = {"head": keras.layers.Dense(2), "unused": kg.GatedRNN(2, "mgu")}

    def build(self, shape):
        self.enc.build(shape)
        self.parts["head"].build((*shape[:2], U))
        self.parts["unused"].build(shape)

    def call(self, x):
        y = self.enc(x)
        return {"states": y, "class": self.parts["head"](y)}


def test_subclassed_with_a_signature_and_a_layer_that_is_bypassed(path):
    model = Subclassed()
    with pytest.raises(ValueError, match="input_signature"):
        export_onnx(model, path)
    model.build((None, None, F))
    randomized(model)
    signature = [keras.InputSpec(shape=(None, None, F), dtype="float32")]
    report = exported(model, path, 1, input_signature=signature)
    assert report.inputs == ("input",) and report.outputs == ("class", "states")
    operators = sorted(layer.operator for layer in report.layers)
    assert operators == ["GRU", "not traced"]


def test_reloaded_and_never_called(path, tmp_path):
    model = functional(kg.GatedRNN(U, "janet"), keras.layers.Dense(2, name="head"))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    report = exported(loaded, path, 1)
    assert report.outputs == ("head",)
    assert check_onnx(model, path).passed


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_dense_on_sequences_is_one_product(activation, path):
    x = y = keras.Input((None, 2, F), name="x")
    for use_bias in (True, False):
        y = keras.layers.Dense(4, activation, use_bias=use_bias)(y)
    model = randomized(keras.Model(x, y))
    report = export_onnx(model, path)
    activations = {"Softmax": 2} if activation else {}
    assert report.operators == {"MatMul": 2, "Add": 1, **activations}


def test_names_are_the_same_after_saving_and_loading(path, tmp_path):
    both = keras.layers.Bidirectional(
        kg.GatedRNN(U, "mgu", return_sequences=True, name="mgu"), name="both"
    )
    model = functional(both, keras.Sequential([keras.layers.Dense(2, name="head")], name="inner"))
    model.save(tmp_path / "model.keras")
    found = []
    for one in (model, keras.models.load_model(tmp_path / "model.keras")):
        report = export_onnx(one, path, lowering={"both/forward_mgu": "scan"})
        names = {tensor.name for tensor in onnx.load(path).graph.initializer}
        weights = sorted(name for name in names if name.startswith(("both/", "inner/")))
        found.append(([layer.name for layer in report.layers], weights))
    assert found[0] == found[1]
    layers, weights = found[0]
    assert layers == ["both/forward_mgu", "both/backward_mgu"]
    assert {"both/backward_mgu/R", "inner/head/kernel"} <= set(weights)
    assert "both/forward_mgu/gated_cell/kernel/candidate" in weights


def test_static_shapes(path):
    x = keras.Input((6, F), name="x")
    model = randomized(keras.Model(x, kg.GatedRNN(U, "lstm", unroll=True)(x)))
    exported(model, path, 1, dynamic=False)
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [1, 6, F]
    with pytest.raises(ValueError, match="dynamic"):
        export_onnx(functional(kg.GatedRNN(U, "lstm")), path, dynamic=False)


@pytest.mark.parametrize("opset", [13, 18])
def test_other_opsets(opset, path):
    model = functional(keras.layers.Masking(), kg.GatedRNN(U, "lstm", return_sequences=True))
    exported(model, path, 1, opset=opset)


class Either(keras.Layer):
    """A gated layer in each branch of a condition."""

    def __init__(self):
        super().__init__()
        self.branches = [kg.GatedRNN(U, name) for name in ("lstm", "gru")]

    def build(self, shape):
        for branch in self.branches:
            branch.build(shape)

    def call(self, x):
        return keras.ops.cond(keras.ops.sum(x) > 0, *[lambda b=b: b(x) for b in self.branches])

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], U))


def test_inside_a_condition(path):
    model = functional(Either())
    export_onnx(model, path, verify=False)
    assert native_nodes(path) == 2 and count_operators(path)["If"] == 1
    x = np.random.default_rng(0).random((2, 4, F)).astype("float32")
    for sign in (x, -x):
        assert_same(model, path, sign)


# Precision and the loop -------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_leaves_as_float32(policy, path):
    x = keras.Input((None, F), name="x")
    y = kg.GatedRNN(U, "lstm", return_sequences=True, dtype=policy)(x)
    model = randomized(keras.Model(x, keras.layers.Dense(2, dtype=policy)(y)))
    report = exported(model, path, 1)
    assert report.largest_difference < 5e-6
    assert all(layer.dtype_policy.name == policy for layer in model.layers[1:])


def test_pure_half_precision_is_refused(path):
    x = keras.Input((None, F), name="x")
    layer = kg.GatedRNN(U, "lstm", dtype="bfloat16", recurrent_initializer="glorot_uniform")
    model = keras.Model(x, layer(x))
    with pytest.raises(ExportError, match="bfloat16 weights.*float32"):
        export_onnx(model, path)


def test_float64_leaves_as_a_scan(path):
    x = keras.Input((None, F), dtype="float64", name="x")
    model = randomized(keras.Model(x, kg.GatedRNN(U, "gru", dtype="float64")(x)))
    report = export_onnx(model, path)
    assert report.layers[0].operator == "Scan" and "float64" in report.layers[0].reason
    assert report.largest_difference < 1e-12


def test_loop_on_request_and_native_on_demand(path):
    model = functional(kg.GatedRNN(U, "gru", return_sequences=True))
    report = export_onnx(model, path, lowering="loop")
    assert report.operators["Loop"] == 1 and native_nodes(path) == 0
    with pytest.raises(ExportError, match="'native'.*carry_activation"):
        export_onnx(functional(kg.GatedRNN(U, "cfn")), path, lowering="native")


def test_lowering_by_layer(path):
    model = functional(
        kg.GatedRNN(U, "gru", return_sequences=True, name="first"),
        kg.GatedRNN(U, "lstm", return_sequences=True, name="second"),
        kg.GatedRNN(U, "elman", name="third"),
    )
    report = export_onnx(model, path, lowering={"first": "scan", "third": "loop"})
    assert [layer.operator for layer in report.layers] == ["Scan", "LSTM", "Loop"]


def test_auto_looks_at_size_batch_and_missing_blocks():
    def taken(name, units, batch=1):
        return choose(resolve(kg.preset(name)), units, "auto", batch).operator

    assert taken("janet", 64) == "LSTM" and taken("janet", 512) == "Scan"
    assert taken("janet", 64, batch=64) == "Scan"
    assert taken("lstm", 2048, batch=256) == "LSTM"  # nothing is missing
    assert taken("qrnn_fo", 8) == "LSTM" and taken("qrnn_fo", 512) == "Scan"
    assert taken("cfn", 8) == "Scan"


def test_the_body_of_a_scan_has_the_blocks_of_the_cell_alone(path):
    model = functional(kg.GatedRNN(U, "mgu", return_sequences=True, name="cell"))
    export_onnx(model, path, lowering="scan")
    graph = onnx.load(path).graph
    (scan,) = (node for node in graph.node if node.op_type == "Scan")
    body = next(a.g for a in scan.attribute if a.name == "body")
    products = [node for node in body.node if node.op_type == "MatMul"]
    assert len(products) == 2 and len(body.node) < 20  # h and r h
    stored = {t.name: t.dims for g in (graph, body) for t in g.initializer if len(t.dims) == 2}
    assert sum(int(np.prod(dims)) for dims in stored.values()) == 2 * U * (F + U)
    assert scan.name == "cell/Scan" and all(node.name.startswith("cell/") for node in body.node)


SCALES: list = []


@keras.saving.register_keras_serializable("tests")
def scaled(x):
    return SCALES[0] * keras.ops.tanh(x)


def test_an_activation_that_reads_a_variable(path):
    SCALES[:] = [keras.Variable(0.7)]
    layer = kg.GatedRNN(U, "elman", activation=scaled, name="cell")
    report = export_onnx(functional(layer), path)
    reason = "variable"
    assert [row.operator for row in report.layers] == ["Loop"] and reason in report.layers[0].reason
    assert report.largest_difference < 1e-5
    cells = [kg.GatedCell(U, "gru"), kg.GatedCell(U, "elman", activation=scaled)]
    report = export_onnx(functional(keras.layers.RNN(cells, name="stack")), path)
    assert [row.operator for row in report.layers] == ["Loop", "Loop"]
    assert "stack/cell_2" in report.layers[0].reason
    layer = kg.GatedRNN(U, "elman", activation=scaled, return_sequences=True)
    both = keras.layers.Bidirectional(layer)
    with pytest.raises(ExportError, match="Bidirectional.*lowering='loop'"):
        export_onnx(functional(both), path)


def test_an_own_activation_with_weights_of_a_layer_of_keras(path):
    layers = [keras.layers.SimpleRNN(U, activation=keras.layers.PReLU(), name="cell")]
    report = export_onnx(functional(*layers), path)
    (layer,) = report.layers
    assert (layer.operator, layer.reason) == (
        "Loop",
        "SimpleRNN over SimpleRNNCell is no setting known; as tf2onnx converts it",
    )
    assert report.largest_difference < 1e-5


# What must not pass -----------------------------------------------------------------------------


def spoilt(path: str, name: str, change) -> str:
    """The file with one constant changed."""
    model = onnx.load(path)
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    array = change(onnx.numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
    onnx.save(model, path)
    return path


def swap(first: int, second: int):
    def change(array):
        blocks = array.reshape(1, -1, U, *array.shape[2:]).copy()
        blocks[:, [first, second]] = blocks[:, [second, first]]
        return blocks.reshape(array.shape)

    return change


def negate(block: int):
    def change(array):
        array[:, block * U : (block + 1) * U] *= -1
        return array

    return change


@pytest.mark.parametrize(
    ("weight", "change"),
    [
        ("enc/W", swap(0, 1)),
        ("enc/R", swap(2, 3)),
        ("enc/W", negate(2)),
        ("enc/R", negate(2)),
        ("enc/P", swap(0, 2)),
        ("enc/P", np.zeros_like),
        ("enc/B", np.zeros_like),
        ("head/kernel", np.zeros_like),
    ],
)
def test_a_spoilt_file_fails(weight, change, path):
    model = functional(kg.GatedRNN(U, "cifg", name="enc"), keras.layers.Dense(2, name="head"))
    export_onnx(model, path, verify=False)
    assert check_onnx(model, path).passed
    spoilt(path, weight, change)
    report = check_onnx(model, path)
    assert not report.passed
    assert "'head'" in report.problems[0] and "(2, 9, 3)" in report.problems[0]
    assert "FAILED" in str(report)
    with pytest.raises(ExportError, match="head.*differs at x"):
        check_onnx(model, path, raise_on_failure=True)


def test_export_refuses_a_wrong_graph_and_keeps_the_old_file(path, monkeypatch):
    from keras_gated.onnx.tracing import tracer as tracing

    model = functional(kg.GatedRNN(U, "lstm", name="enc"), keras.layers.Dense(2, name="head"))

    def wrong(*arguments):
        packed = right(*arguments)
        return {**packed, "W": swap(0, 3)(packed["W"])}

    right = tracing.pack
    monkeypatch.setattr(tracing, "pack", wrong)
    with pytest.raises(ExportError, match="(?s)'head' differs at x"):
        export_onnx(model, path)
    assert list(Path(path).parent.iterdir()) == []
    Path(path).write_bytes(b"an older file")
    with pytest.raises(ExportError):
        export_onnx(model, path)
    assert Path(path).read_bytes() == b"an older file"
    assert len(list(Path(path).parent.iterdir())) == 1


def test_other_weights_other_inputs_and_no_onnx_at_all(path):
    model = functional(kg.GatedRNN(U, "lstm", name="enc"))
    export_onnx(model, path, verify=False)
    assert not check_onnx(randomized(model, seed=1), path).passed
    other = functional(kg.GatedRNN(U, "lstm", name="enc"), name="y")
    assert "inputs" in check_onnx(other, path).problems[0]
    onnx_model = onnx.load(path)
    onnx_model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(onnx_model, path)
    assert "not valid ONNX" in check_onnx(model, path).problems[0]


def test_stateful_is_refused(path):
    x = keras.Input(batch_shape=(2, None, F))
    model = keras.Model(x, kg.GatedRNN(U, "lstm", stateful=True, name="kept")(x))
    with pytest.raises(ExportError, match="stateful=True.*kept.*export_streaming.*return_state"):
        export_onnx(model, path)
    assert not Path(path).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"opset": 9}, "`opset`.*13..18.*opset=9"),
        ({"lowering": "fast"}, "`lowering`.*'auto'.*'fast'"),
        ({"model": 3}, "`model`.*keras.Model.*int"),
        ({"path": "/no/such/folder/m.onnx"}, "`path`.*/no/such/folder"),
    ],
)
def test_arguments(arguments, words, path):
    given = {"model": functional(kg.GatedRNN(U, "lstm")), "path": path, **arguments}
    with pytest.raises(ValueError, match=words):
        export_onnx(**given)


class Unconvertible(keras.Layer):
    def call(self, x):
        return keras.ops.cumsum(x, axis=1) + keras.ops.fft((x, x))[0]


class Captured(keras.Layer):
    def __init__(self):
        super().__init__()
        import tensorflow as tf

        self.outside = {"tensor": tf.constant([1.0, 2.0, 3.0])}

    def call(self, x):
        return x * self.outside["tensor"]


def test_operations_without_onnx_form(path):
    model = functional(kg.GatedRNN(4, "lstm", return_sequences=True), Unconvertible())
    with pytest.raises(ExportError, match="no ONNX form.*FFT"):
        export_onnx(model, path)
    assert not Path(path).exists()


def test_a_captured_tensor(path):
    model = functional(Captured(), kg.GatedRNN(4, "lstm"))
    with pytest.raises(ExportError, match="inputs"):
        export_onnx(model, path)


def test_a_missing_package_names_the_extra(monkeypatch):
    from keras_gated.onnx import errors

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"onnxruntime.*pip install .*\[onnx\]"):
        errors.require("onnxruntime")


GUARD = """
import sys
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
for shape in [(0, 4, 3), (2, 0, 3), (0, 0, 3)]:
    try:
        session.run(None, {"x": np.zeros(shape, np.float32)})
    except Exception as error:
        print("refused", shape)
session.run(None, {"x": np.zeros((2, 4, 3), np.float32)})
print("alive")
"""


def refused_when_empty(path) -> bool:
    """Whether a file refuses what is empty: without a guard onnxruntime ends the process."""
    result = subprocess.run(
        [sys.executable, "-c", GUARD, path], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.count("refused") == 3 and "alive" in result.stdout


def rnn(name="lstm", **options):
    return kg.GatedRNN(U, name, return_sequences=True, **options)


@pytest.mark.parametrize("name", ["lstm", "gru", "elman"])
def test_an_empty_batch_is_an_ordinary_error(name, path):
    export_onnx(functional(rnn(name)), path, verify=False)
    assert refused_when_empty(path)


STACKS = {  # and how many guards they need: what comes straight from a guarded node is not empty
    "three layers": (lambda: [rnn(), rnn("gru"), rnn("elman", go_backwards=True)], 1),
    "both directions": (lambda: [keras.layers.Bidirectional(rnn()), rnn("gru")], 1),
    "a layer between": (lambda: [rnn(), keras.layers.Dense(4), rnn("gru")], 2),
    "a slice between": (lambda: [rnn(), keras.layers.Cropping1D((2, 1)), rnn("gru")], 2),
}


@pytest.mark.parametrize("layers, guards", STACKS.values(), ids=STACKS)
def test_a_stack_is_guarded_where_it_must_be(layers, guards, path):
    export_onnx(functional(*layers()), path, lowering="native", verify=False)
    names = [node.name for node in onnx.load(path).graph.node]
    assert sum(name.endswith("not_empty") for name in names) == guards
    assert refused_when_empty(path)
