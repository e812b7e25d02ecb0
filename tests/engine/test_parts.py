"""Parts of the formula in cells that no preset is, under all that a layer can do with a cell."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.engine.backends.selected import backend
from keras_gated.engine.run import run_by
from tests.helpers import (
    BACKEND,
    FINEST,
    Summed,
    assert_close,
    compare,
    raises,
    run_and_differentiate,
)

B, T, F, U = 3, 6, 4, 6  # all kernels of two blocks fit
RNG = np.random.default_rng(11)
MASK = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 0, 1], [1, 1, 1, 0, 0, 0]], bool)

two, three = kg.Blocks(2), kg.Blocks(3)
COUPLED = kg.Tied("forget", complement=True)
TRAINED = kg.Tied("forget", complement=True, offset=0.2, trained=True)
SPECS = {
    "blocks, LSTM": kg.CellSpec(
        input_gate=kg.Gate(two, two),
        forget_gate=kg.Gate("dense", two, peephole=True),
        output_gate=kg.Gate(two, three),
        candidate=kg.Candidate("dense", three),
    ),
    "blocks, GRU": kg.CellSpec(
        memory="hidden",
        input_gate=COUPLED,
        forget_gate=kg.Gate(recurrent_kernel=two),
        reset_gate=kg.Gate(recurrent_kernel=two),
        candidate=kg.Candidate(recurrent_kernel=two, reset_after=True),
    ),
    "blocks, reset before": kg.CellSpec(
        reset_gate=kg.Gate(recurrent_kernel=two), candidate=kg.Candidate(two, two)
    ),
    "products in another order than blocks": kg.CellSpec(
        input_gate=kg.Gate(activation="hard_sigmoid"),
        forget_gate=kg.Gate(activation="hard_sigmoid", input_activation="tanh"),
        output_gate=kg.Gate(activation="hard_sigmoid"),
        candidate=kg.Candidate(activation="gelu"),
    ),
    "reset of the whole candidate": kg.CellSpec(
        memory="hidden",
        input_gate=COUPLED,
        reset_gate=True,
        candidate=kg.Candidate(recurrent_kernel=two, reset_all=True),
    ),
    "whole candidate, tied": kg.CellSpec(
        reset_gate=kg.Tied("input", offset=0.4),
        candidate=kg.Candidate(reset_all=True, activation="softsign"),
    ),
    "whole candidate, constant": kg.CellSpec(
        reset_gate=0.5, candidate=kg.Candidate(reset_all=True)
    ),
    "whole candidate of the input": kg.CellSpec(
        reset_gate=True, candidate=kg.Candidate(recurrent_kernel=None, reset_all=True)
    ),
    "whole candidate, linear": kg.CellSpec(
        memory="hidden",
        forget_gate=kg.Gate(recurrent_kernel=None),
        input_gate=COUPLED,
        reset_gate=kg.Gate(recurrent_kernel=None),
        candidate=kg.Candidate(recurrent_kernel=None, reset_all=True),
    ),
    "floor": kg.CellSpec(
        input_gate=kg.Tied("forget", complement=True, offset=0.3),
        forget_gate=kg.Gate(floor=0.6, peephole=True),
        output_gate=kg.Gate(floor=0.25, activation="tanh"),
    ),
    "floors, linear": kg.CellSpec(
        memory="hidden",
        forget_gate=kg.Gate(recurrent_kernel=None, floor=0.9),
        input_gate=kg.Gate(recurrent_kernel=None, floor=0.1, activation="one_plus_tanh"),
        candidate=kg.Candidate(recurrent_kernel=None),
    ),
    "divided by their sum": kg.CellSpec(
        input_gate=kg.Gate(recurrent_kernel=two, peephole=True),
        reset_gate=kg.Tied("forget"),
        output_gate=kg.Tied("input", complement=True),
        normalize_gates=True,
    ),
    "divided with a floor, linear": kg.CellSpec(
        input_gate=kg.Gate(recurrent_kernel=None, floor=0.2),
        forget_gate=kg.Gate(recurrent_kernel=None),
        output_gate=kg.Tied("forget"),
        candidate=kg.Candidate(recurrent_kernel=None, activation="positive_linear"),
        normalize_gates=True,
    ),
    "floors under a normaliser": kg.CellSpec(
        input_gate=kg.Gate(recurrent_kernel=two, activation="exp"),
        forget_gate=kg.Gate(floor=0.3),
        normalizer=True,
    ),
    "floor under a scale, linear": kg.CellSpec(
        input_gate=kg.Gate("diagonal", None, activation="exp"),
        forget_gate=kg.Gate(recurrent_kernel=None, floor=0.3),
        output_gate=kg.Gate(two, None),
        candidate=kg.Candidate(two, None),
        input_projection=kg.Projection("tanh"),
        input_scale="root",
    ),
    "exponential gates divided, linear": kg.CellSpec(
        memory="hidden",
        input_gate=kg.Gate(recurrent_kernel=None, activation="exp"),
        forget_gate=kg.Gate(recurrent_kernel=None, decay=2.0),
        candidate=kg.Candidate(recurrent_kernel=None),
        normalize_gates=True,
    ),
    "blocks, linear": kg.CellSpec(
        forget_gate=kg.Gate(two, None),
        input_gate=COUPLED,
        output_gate=kg.Gate("dense", None),
        candidate=kg.Candidate(two, None),
    ),
    "normaliser": kg.CellSpec(
        input_gate=kg.Gate(recurrent_kernel=two, activation="exp"),
        output_gate=kg.Tied("forget", complement=True),
        normalizer=True,
    ),
    "normaliser, one exponential gate": kg.CellSpec(
        input_gate=kg.Tied("forget", offset=0.3),
        forget_gate=kg.Gate(activation="exp", recurrent_kernel="diagonal"),
        reset_gate=kg.Gate(),
        output_activation="tanh",
        normalizer=True,
    ),
    "normaliser of a decay": kg.CellSpec(
        input_gate=kg.Gate(floor=0.2),
        forget_gate=kg.Gate(recurrent_kernel=two, decay=1.5),
        output_gate=kg.Gate(shares="candidate"),
        input_skip=True,
        input_projection=kg.Projection(),
        normalizer=True,
    ),
    "scale of what is written": kg.CellSpec(
        input_gate=kg.Gate(decay=0.5),
        forget_gate=kg.Gate(peephole=True, floor=0.1),
        output_gate=kg.Tied("input", complement=True, offset=0.4),
        input_scale="root",
    ),
    "decays, linear": kg.CellSpec(
        memory="hidden",
        input_gate=kg.Gate(recurrent_kernel=None),
        forget_gate=kg.Gate(two, None, decay=2.0),
        candidate=kg.Candidate(recurrent_kernel=None),
        input_scale="root",
    ),
    "input, linear": kg.CellSpec(
        input_gate=COUPLED,
        forget_gate=kg.Gate(recurrent_kernel=None),
        output_gate=kg.Gate(recurrent_kernel=None, peephole=True),
        candidate=kg.Candidate(recurrent_kernel=None),
        input_skip=True,
        input_projection=kg.Projection("tanh"),
    ),
    "input, and a peephole before the step": kg.CellSpec(
        input_gate=kg.Gate(peephole="previous"),
        output_gate=kg.Gate(peephole="previous"),
        input_skip=True,
        input_projection=kg.Projection(),
    ),
    "shared products": kg.CellSpec(
        input_gate=TRAINED,
        forget_gate=kg.Gate(shares="candidate", peephole=True),
        output_gate=kg.Gate(shares="candidate", use_bias=False),
        candidate=kg.Candidate(two, two),
    ),
    "shared products, linear": kg.CellSpec(
        memory="hidden",
        input_gate=TRAINED,
        forget_gate=kg.Gate(shares="candidate"),
        candidate=kg.Candidate(recurrent_kernel=None, activation="linear"),
    ),
}
NATIVE = {"blocks, LSTM": "LSTM", "blocks, GRU": "GRU", "blocks, linear": "LSTM"}
LINEAR = [name for name in SPECS if "linear" in name]
OPTIONS = {
    "dropout": {"dropout": 0.3, "recurrent_dropout": 0.4, "candidate_dropout": 0.2},
    "zoneout": {"zoneout": 0.3},
    "state_clip": {"state_clip": 0.2},
    "weight_noise": {"weight_noise": 0.2},
    "batch_norm": {"batch_norm": True},
    "layer_norm": {"layer_norm": True},
    "projection_units": {"projection_units": 12},
}
# A cell for each part. The others, where parts meet, are long tests.
FIRST = (
    *("blocks, LSTM", "reset of the whole candidate", "floor", "divided by their sum"),
    *("normaliser", "scale of what is written", "decays, linear", "shared products"),
    "input, and a peephole before the step",
)
every = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FIRST else pytest.mark.long) for n in SPECS]
)
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow alone")


def made(kind: str, dtype: str = FINEST, **arguments):
    """A built layer with random weights."""
    arguments = {"return_sequences": True, "dtype": dtype, "seed": 3, **arguments}
    layer = kg.GatedRNN(U, SPECS[kind], **arguments)
    layer.build((B, T, F))
    rng = np.random.default_rng(7)
    for weight in layer.trainable_weights:
        weight.assign(0.6 * rng.standard_normal(weight.shape))
    return layer


def inputs(layer, dtype: str = FINEST) -> tuple:
    """Sequences, and initial states that are not zero."""
    rng = np.random.default_rng(8)
    states = [0.7 * rng.standard_normal((B, size)).astype(dtype) for size in layer.cell.state_size]
    if layer.cell.form.normalizer:  # the cell divides by it
        states[2] = abs(states[2]) + 0.5
    return rng.standard_normal((B, T, F)).astype(dtype), states


def slopes(layer, automatic: bool = False, **call) -> tuple:
    """Outputs and gradients of outputs and last states, by weights and initial states."""
    x, states = inputs(layer)
    rng, model = np.random.default_rng(9), layer
    if layer.return_state:
        model = Summed(layer, rng.normal(size=(len(states), B, U)))
    upstream = rng.normal(size=(B, T, layer.cell.output_size))
    if not automatic:
        return run_and_differentiate(model, x, upstream, states, **call)
    with run_by(lambda _: None):
        return run_and_differentiate(model, x, upstream, states, **call)


@pytest.mark.sampled(4)
@every
def test_the_gradient_under_masks_equals_the_automatic_one(name):
    layer = made(name, return_state=True)
    assert layer.cell.automatic_reason is None
    compare(slopes(layer, mask=MASK), slopes(layer, automatic=True, mask=MASK), name)


@pytest.mark.sampled(9)
@every
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_has_the_automatic_gradient_or_is_refused(name, option):
    """In training, with the same masks and noise drawn for both."""
    try:
        # With projection_units the states have two sizes.
        layer = made(name, return_state=option != "projection_units", **OPTIONS[option])
    except ValueError as error:
        assert f"`{option}`" in str(error) and "Received" in str(error)
        return
    found = []
    for automatic in (False, True):
        layer.cell.seed_generator.state.assign([0, 5])
        found.append(slopes(layer, automatic, mask=MASK, training=True))
    compare(*found, f"{name} {option}")


@pytest.mark.sampled(4)
@pytest.mark.skipif(BACKEND == "torch", reason="torch does it at no batch")
@every
def test_the_gradient_with_products_in_each_step(name, monkeypatch):
    """As with a large batch."""
    found = []
    for large in (1, B + 1):
        monkeypatch.setattr(backend, "LARGE_BATCH", large)
        found.append(slopes(made(name, return_state=True), mask=MASK))
    compare(*found, name)


@pytest.mark.sampled(4)
@on_tensorflow
@every
def test_the_gradient_equals_central_differences(name):
    layer = made(name)
    x, states = inputs(layer)
    upstream = np.random.default_rng(2).normal(size=(B, T, U))
    call = {"initial_state": states}
    _, by_weight, _ = run_and_differentiate(layer, x, upstream, states)
    before = layer.get_weights()
    for k, slope in enumerate(by_weight):
        direction, values = np.random.default_rng(k).normal(size=slope.shape), []
        for step in (1e-6, -1e-6):
            layer.set_weights([*before[:k], before[k] + step * direction, *before[k + 1 :]])
            values.append(float(np.sum(upstream * keras.ops.convert_to_numpy(layer(x, **call)))))
        difference = (values[0] - values[1]) / 2e-6
        assert np.sum(slope * direction) == pytest.approx(difference, rel=1e-7, abs=1e-7)
        layer.set_weights(before)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_all_time_steps_at_once(name, mask):
    ways = [made(name, return_state=True, time_parallel=way) for way in (True, False)]
    assert not any(made(other).cell.parallel_in_time for other in SPECS.keys() - {*LINEAR})
    call = {} if mask is None else {"mask": mask}
    at_once, in_a_loop = (slopes(layer, **call) for layer in ways)
    for k, (ours, theirs) in enumerate(zip(at_once, in_a_loop, strict=True)):
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other, f"keras {FINEST}", f"{name}: {k}")


@pytest.mark.sampled(2)
@on_tensorflow
@every
def test_compiled_by_xla(name):
    import tensorflow as tf

    layer = made(name, "float32")
    x, _ = inputs(layer, "float32")

    def step(x):
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(y, [w.value for w in layer.trainable_weights])

    for ours, eager in zip(tf.function(step, jit_compile=True)(x), step(x), strict=True):
        assert_close(ours, eager, "xla", name)


@every
def test_saved_and_loaded(name, tmp_path):
    model = keras.Sequential([keras.Input((None, F)), made(name, "float32")])
    x, _ = inputs(model.layers[0], "float32")
    expected = model(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].spec == SPECS[name]
    assert_close(loaded(x), expected, "reload", name)
    assert kg.CellSpec.from_config(SPECS[name].to_config()) == SPECS[name]


@every
def test_counts_and_text(name):
    layer = made(name)
    assert kg.count_parameters(SPECS[name], F, U) == layer.count_params()
    units = kg.units_for_budget(SPECS[name], F, 10_000)
    step = layer.cell.form.unit_groups
    assert kg.count_parameters(SPECS[name], F, units) <= 10_000 and units % step == 0
    assert kg.count_parameters(SPECS[name], F, units + step) > 10_000
    text = kg.describe(layer, F, U)
    assert "\\" not in text and "{" not in text
    assert (NATIVE.get(name) or "Scan") in text.split("ONNX")[1]


@every
def test_mixed_precision(name):
    found = []
    for dtype in ("float32", "mixed_bfloat16"):
        layer = made(name, dtype)
        found.append(layer(inputs(layer, "float32")[0]))
        assert found[-1].dtype is not None
    assert_close(keras.ops.cast(found[1], "float32"), found[0], "mixed_bfloat16", name)


@pytest.mark.sampled(4)
@every
def test_traces_and_streams_of_one_step_each(name):
    """A trace says the gates of each step; a stateful layer goes on where it stopped."""
    layer = made(name, "float32")
    x, _ = inputs(layer, "float32")
    trace = kg.trace_gates(layer, x)[layer.name]
    gates = [k for k in ("input", "forget", "reset", "output") if k in trace]
    assert gates == [
        k for k in ("input", "forget", "reset", "output") if layer.cell.form.gates[k].block
    ]
    form = layer.cell.form
    memory, candidate = trace.get("c", trace["h"]), trace["candidate"]
    memory = memory * np.exp(trace["m"]) if form.normalizer else memory  # c has a scale of its own
    before = np.concatenate([np.zeros_like(memory[:, :1]), memory[:, :-1]], axis=1)
    scale = np.sqrt(1.0 - trace["forget"] ** 2) if form.input_scale else 1.0
    written = scale * trace["input"] * candidate
    assert_close(trace["forget"] * before + written, memory, "float32", f"{name}: memory")
    chunks = made(name, "float32", stateful=True)
    steps = [chunks(x[:, t : t + 1]) for t in range(T)]
    assert_close(keras.ops.concatenate(steps, axis=1), layer(x), "chunks", name)


@pytest.mark.sampled(4)
@on_tensorflow
@every
@pytest.mark.parametrize("lowering", ["auto", "scan"])
def test_exported(name, lowering, tmp_path):
    layer = made(name, "float32", name="a")
    model = keras.Sequential([keras.Input((None, F), name="x"), keras.layers.Masking(), layer])
    report = kg.export_onnx(model, tmp_path / "model.onnx", lowering=lowering)
    operator = NATIVE.get(name, "Scan") if lowering == "auto" else "Scan"
    assert report.layers[0].operator == operator and report.largest_difference < 1e-5
    streamed = keras.Sequential([keras.Input((None, F), name="x"), layer])
    stream = kg.export_streaming(streamed, tmp_path / "stream.onnx", lowering=lowering)
    assert stream.largest_difference < 1e-5


@on_tensorflow
def test_what_a_file_holds_of_blocks(tmp_path):
    """A Scan has the stored blocks, a native node the dense matrix, whose nodes make it of them."""
    import onnx

    spec = kg.CellSpec(candidate=kg.Candidate(recurrent_kernel=kg.Blocks(4)))
    x = keras.Input((None, F), name="x")
    model = keras.Model(x, kg.GatedRNN(64, spec)(x))
    shapes, sizes = {}, {}
    for lowering in ("scan", "native"):
        path = tmp_path / f"{lowering}.onnx"
        kg.export_onnx(model, path, lowering=lowering)
        graphs = [onnx.load(path).graph]
        tensors = []
        while graphs:
            graph = graphs.pop()
            tensors += graph.initializer
            for node in graph.node:
                graphs += [a.g for a in node.attribute if a.HasField("g")]
                tensors += [a.t for a in node.attribute if a.HasField("t")]
        shapes[lowering] = {tuple(tensor.dims) for tensor in tensors}
        sizes[lowering] = sum(np.prod(t.dims) for t in tensors if t.data_type == 1)
    assert (4, 16, 16) in shapes["scan"] and (4, 16, 1, 16) in shapes["native"]
    assert max(sizes.values()) <= model.count_params() + 4 * 64 + 10  # the LSTM's second biases


@on_tensorflow
@pytest.mark.parametrize("name", ["blocks, LSTM", "reset of the whole candidate"])
def test_quantized(name, tmp_path):
    x = keras.Input((None, F), name="x")
    model = keras.Model(x, made(name, "float32")(x))
    report = kg.quantize_onnx(model, tmp_path / "int8.onnx")
    assert report.outputs and all(output.largest < 0.1 for output in report.outputs)


@pytest.mark.long
@on_tensorflow
@every
def test_reported(name):
    """What each smaller gate would cost is what the smaller model costs."""
    model = keras.Sequential([keras.Input((None, F)), made(name, "float32", name="a")])
    model.add(keras.layers.Dense(1))
    model.compile("sgd", "mse")
    x, y = inputs(model.layers[0], "float32")[0], np.ones((B, T, 1), "float32")
    if SPECS[name].normalize_gates:
        gone = {"a": {"forget_gate": False}}
        raises(lambda: kg.reduce_gates(model, gone, x), "normalize_gates...forget_gate")
        return
    if SPECS[name].input_gate == TRAINED:  # no gate of its own weights, and no unit, can go
        raises(lambda: kg.gate_report(model, x, y, verbose=0), "`model`...gate with weights")
        return
    report = kg.gate_report(model, x, y, verbose=0)
    batch = {"batch_size": B, "verbose": 0}
    for row in report.rows[::3]:
        smaller = kg.reduce_gates(model, row.changes, x, fit=row.fitted)
        smaller.compile("sgd", "mse")
        assert row.loss == pytest.approx(smaller.evaluate(x, y, **batch), rel=1e-4), row
        assert row.weights == model.count_params() - smaller.count_params() > 0


# Blocks -------------------------------------------------------------------------------------------


def test_blocks_are_initialised_one_by_one():
    """Each is a matrix with the fans of its own, and no two are equal."""
    gate = kg.Gate(kernel=None, recurrent_kernel=two, use_bias=False)
    spec = kg.CellSpec(forget_gate=gate, input_gate=COUPLED, output_gate=1.0)
    layer = kg.GatedRNN(U, spec, recurrent_initializer=keras.initializers.Orthogonal(seed=1))
    layer.build((None, None, F))
    first, second = keras.ops.convert_to_numpy(layer.block_weights()["forget"]["recurrent_kernel"])
    for block in (first, second):
        np.testing.assert_allclose(block @ block.T, np.eye(U // 2), atol=1e-5)
    assert np.abs(first - second).max() > 0.01
    again = kg.GatedRNN(U, spec, recurrent_initializer=keras.initializers.Orthogonal(seed=1))
    again.build((None, None, F))
    assert_close(again.get_weights()[-1], layer.get_weights()[-1], "reload", "seed")


@pytest.mark.parametrize("projection", [None, 12])
def test_blocks_are_a_dense_kernel_with_zeros(projection):
    spec = SPECS["blocks, LSTM"]

    def dense(part):
        kinds = {"kernel": part.kernel and "dense", "recurrent_kernel": "dense"}
        return replace(part, **kinds)

    gates = {f"{k}_gate": dense(spec.gate(k)) for k in ("input", "forget", "output")}
    whole = replace(spec, **gates, candidate=dense(spec.candidate))
    small = made("blocks, LSTM", projection_units=projection)
    large = kg.GatedRNN(U, whole, return_sequences=True, dtype=FINEST, projection_units=projection)
    large.build((B, T, F))
    blocks = {k: dict(block) for k, block in small.block_weights().items()}
    for name, block in small.cell.form.blocks.items():
        for key, size in (("kernel", F), ("recurrent_kernel", projection or U)):
            w = keras.ops.convert_to_numpy(blocks[name][key])
            blocks[name][key] = getattr(block, key).to_matrix(np, w, size)
    large.set_block_weights(blocks)
    x, states = inputs(small)
    found = [layer(x, initial_state=states) for layer in (small, large)]
    assert_close(*found, f"keras {FINEST}", "blocks")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: kg.Blocks(0), "`n`...n=0"),
        (lambda: kg.Blocks(True), "`n`...n=True"),
        (lambda: kg.Blocks(2.0), "`n`...n=2.0"),
        (lambda: built(5, 4), "units must be a multiple of 2...units=5...Blocks(n)"),
        (lambda: built(6, 3), "input features must be a multiple of 2...input features=3"),
        (lambda: built(6, 4, projection_units=3), "projection_units...projection_units=3"),
        (lambda: kg.Gate(kernel="blocks"), "`kernel`...keras_gated.Blocks(n)...kernel='blocks'"),
        (
            lambda: kg.count_parameters(kg.CellSpec(candidate=kg.Candidate(two)), 3, 4),
            "input features=3",
        ),
    ],
)
def test_blocks_that_do_not_fit(make, text):
    raises(make, text)


def built(units: int, features: int, **options):
    spec = kg.CellSpec(candidate=kg.Candidate(kernel=two, recurrent_kernel=two))
    kg.GatedRNN(units, spec, **options).build((None, None, features))


def test_constraints_and_regularizers_act_on_each_matrix_of_blocks():
    gate = kg.Gate(kernel=kg.Blocks(2), recurrent_kernel=None)
    layer = kg.GatedRNN(
        U,
        kg.CellSpec(input_gate=gate, forget_gate=gate, output_gate=gate),
        kernel_constraint=keras.constraints.UnitNorm(),
        kernel_regularizer=keras.regularizers.OrthogonalRegularizer(),
    )
    layer.build((B, T, F))
    (weight,) = (w for w in layer.weights if "blocks2" in w.name)
    norms = np.linalg.norm(keras.ops.convert_to_numpy(weight.constraint(weight.value)), axis=1)
    assert norms.shape == (2, 3 * U // 2)
    np.testing.assert_allclose(norms, 1.0, atol=1e-5)
    own = keras.regularizers.OrthogonalRegularizer()
    of_each = [own(matrix) for matrix in keras.ops.unstack(weight.value)]
    *of_each, whole = map(keras.ops.convert_to_numpy, [*of_each, weight.regularizer(weight.value)])
    assert whole == pytest.approx(sum(of_each), rel=1e-5) and whole > 0


def test_units_of_blocks_stay():
    model = keras.Sequential([keras.Input((None, F)), made("blocks, GRU", "float32", name="a")])
    model.add(keras.layers.Dense(1))
    with pytest.raises(ValueError, match="'a' has kernels of blocks"):
        kg.reduce_gates(model, {"a": {"units": 4}}, np.ones((2, 3, F), "float32"))


@on_tensorflow
def test_a_dense_gate_can_become_one_of_blocks():
    rng = np.random.default_rng(0)
    layer = kg.GatedLSTM(U, name="a", return_sequences=True)
    model = keras.Sequential([keras.Input((None, F)), layer, keras.layers.Dense(1)])
    model.set_weights([0.5 * rng.standard_normal(w.shape) for w in model.get_weights()])
    x = rng.standard_normal((20, T, F)).astype("float32")
    values = {}
    for n in (1, 2, 3):
        gate = kg.Gate(recurrent_kernel=kg.Blocks(n)) if n > 1 else kg.Gate()
        smaller = kg.reduce_gates(model, {"a": {"forget_gate": gate}}, x) if n > 1 else model
        values[n] = keras.ops.convert_to_numpy(smaller(x))
        assert model.count_params() - smaller.count_params() == U * U - U * U // n
    errors = [np.abs(values[n] - values[1]).mean() for n in (2, 3)]
    assert 0 < errors[0] < errors[1] < 0.1


# Gates divided by their sum -----------------------------------------------------------------------


def softplus(a):
    return np.logaddexp(0.0, a)


def scan_in_log_space(log_coefficients, log_values):
    """Heinsen 2023, as in Feng et al. 2024, appendix B: h_t from t = 1 on."""
    zeros = np.zeros_like(log_values[:, :1])
    a_star = np.concatenate([zeros, np.cumsum(log_coefficients, axis=1)], axis=1)
    sums = np.logaddexp.accumulate(log_values - a_star, axis=1)
    return np.exp(a_star + sums)[:, 1:]


@pytest.mark.parametrize("name", ["min_gru", "min_lstm"])
@pytest.mark.parametrize("time_parallel", [True, False])
def test_the_minimal_cells_equal_the_papers_log_space_form(name, time_parallel):
    """Feng et al. 2024, arXiv:2410.01201, algorithms 6 and 8."""
    spec = kg.preset(name, positive=True)
    layer = kg.GatedRNN(U, spec, return_sequences=True, dtype=FINEST, time_parallel=time_parallel)
    x = RNG.normal(size=(B, 50, F)).astype(FINEST)
    layer.build(x.shape)
    layer.set_weights([RNG.normal(size=w.shape) for w in layer.get_weights()])
    h_0 = np.exp(RNG.normal(size=(B, U))).astype(FINEST)
    weights = layer.block_weights().items()

    def product(w):
        kernel, bias = (keras.ops.convert_to_numpy(w[key]) for key in ("kernel", "bias"))
        return x.astype("float64") @ kernel.astype("float64") + bias

    k = {name: product(w) for name, w in weights}
    if name == "min_gru":
        log_f, log_i = -softplus(k["input"]), -softplus(-k["input"])
    else:
        difference = softplus(-k["forget"]) - softplus(-k["input"])
        log_f, log_i = -softplus(difference), -softplus(-difference)
    a = k["candidate"]
    log_g = np.where(a >= 0, np.log(np.maximum(a, 0.0) + 0.5), -softplus(-a))
    log_values = np.concatenate([np.log(h_0)[:, None], log_i + log_g], axis=1)
    expected = scan_in_log_space(log_f, log_values)
    assert_close(layer(x, initial_state=[h_0]), expected, f"keras {FINEST}", name)


@pytest.mark.parametrize("large", [80.0, 1000.0])
def test_gates_divided_by_their_sum_are_finite(large):
    """Where both are too small for float32, they still share 1."""
    layer = kg.GatedRNN(2, "min_lstm", return_sequences=True)
    layer.build((None, None, 1))
    one, x = np.ones(2, "float32"), np.ones((1, 2, 1), "float32")
    zeros = np.zeros((1, 2), "float32")
    blocks = {"input": -large * one, "forget": (-large - 1.0) * one, "candidate": one}
    layer.set_block_weights({k: {"kernel": zeros, "bias": v} for k, v in blocks.items()})
    f = 1.0 / (1.0 + np.e)  # e^-1 / (e^-1 + 1)
    expected = np.array([1.0 - f, 1.0 - f * f])[None, :, None] + np.zeros((1, 2, 2))
    assert_close(layer(x), expected, "float32", f"{large}")
    _, by_weight, _ = run_and_differentiate(layer, x, np.ones((1, 2, 2), "float32"))
    assert all(np.isfinite(slope).all() and np.abs(slope).max() > 1e-3 for slope in by_weight)


COUPLING = {"input_gate": kg.Gate(), "forget_gate": kg.Gate(), "normalize_gates": True}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"forget_gate": 0.5}, "`forget_gate`...weights of its own...forget_gate=0.5"),
        ({"input_gate": COUPLED}, "`input_gate`...input_gate=Tied"),
        ({"recurrent_activation": "tanh"}, "`input_gate`...'sigmoid'...'tanh'"),
        ({"forget_gate": kg.Gate(activation="hard_sigmoid")}, "`forget_gate`...'hard_sigmoid'"),
        (
            {"reset_gate": kg.Tied("forget", offset=0.5)},
            "`offset` of `reset_gate`...normalize_gates=True...offset=0.5",
        ),
        ({"normalizer": True}, "`normalize_gates` excludes...normalizer=True"),
        ({"input_scale": "root"}, "`normalize_gates` excludes...input_scale='root'"),
        (
            {"forget_gate": kg.Gate(activation="exp", floor=0.1)},
            "`floor` of `forget_gate`...floor=0.1",
        ),
    ],
)
def test_gates_that_cannot_be_divided_by_their_sum(change, text):
    raises(lambda: kg.CellSpec(**COUPLING | change), text)


def test_a_floor_is_a_number_below_one():
    for wrong in (1.0, -0.1, True, "0.5", float("nan")):
        raises(lambda wrong=wrong: kg.Gate(floor=wrong), f"`floor`...[0, 1)...floor={wrong!r}")
    assert kg.Gate(floor=0).floor == 0.0
    raises(lambda: kg.Gate(floor=0.5, decay=2.0), "`floor` and `decay`...floor=0.5, decay=2.0")


def test_a_reset_gate_acts_in_one_place():
    text = "`reset_all` and `reset_after`...reset_all=True, reset_after=True"
    raises(lambda: kg.Candidate(reset_all=True, reset_after=True), text)
    closed = {"reset_gate": 0.0, "candidate": kg.Candidate(reset_all=True)}
    raises(lambda: kg.CellSpec(**closed), "`reset_gate`...reset_all=True...reset_gate=0.0")
    raises(lambda: kg.GatedRNN(U, "block_gru", reset_after=True), text)
