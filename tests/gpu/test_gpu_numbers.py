"""On the GPU every cell gives the float64 witness's numbers and gradients."""

import zlib

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from benchmarks.gpu_device import PRECISIONS, precision, tf32
from keras_gated.engine import loop_plan as sequence
from keras_gated.engine.backends.selected import backend
from keras_gated.engine.backward import Cut
from keras_gated.spec.normal_form import resolve
from tests.gpu.witness import numbers, slope, under_mask
from tests.helpers import (
    BACKEND,
    B,
    Case,
    F,
    T,
    U,
    assert_close,
    case,
    numpy_blocks,
    run_and_differentiate,
)
from tests.reference import WITNESSES, draw, state_names, valid_states

# By precision, the rows of `helpers.TOLERANCE` for numbers and gradients. TF32 rounds what is
# multiplied to as many bits as float16 has.
BOUNDS = {
    "float32": ("float32", "gradient float32"),
    "TF32": ("mixed_float16", "mixed_float16"),
    "bfloat16": ("mixed_bfloat16", "mixed_bfloat16"),
}
LINEAR = [name for name in kg.presets if resolve(kg.presets[name].spec).linear_memory]
MASK = np.ones((B, T), bool)
MASK[0, 2:4] = MASK[1, :2] = MASK[2] = False  # a hole, from the left, all; the last row is whole
precisions = pytest.mark.parametrize("kind", PRECISIONS)


def found(layer, this: Case, **call) -> dict:
    """What the layer gives on the device, named as `witness.numbers` names it."""
    states = this.initial_state
    (outputs, *final), by_weight, by_state = run_and_differentiate(
        layer, this.x, this.upstream, states, **call
    )
    layer.set_weights(by_weight)  # lays the gradient out as block_weights lays out weights
    count = len(this.state)
    slopes = numpy_blocks(layer) | {
        "state": dict(zip(state_names(this.name), by_state[:count], strict=True))
    }
    return {"outputs": outputs, "final": final[:count], "gradient": slopes}


def compare(ours: dict, expected: dict, kind: str, name: str) -> None:
    """Raises where anything differs by more than the precision allows."""
    of_numbers, of_gradients = BOUNDS[kind]
    assert_close(ours["outputs"], expected["outputs"], of_numbers, f"{name}: outputs")
    assert len(ours["final"]) == len(expected["final"])
    labels = expected["gradient"]["state"]
    for label, a, b in zip(labels, ours["final"], expected["final"], strict=True):
        assert_close(a, b, of_numbers, f"{name}: final {label}")
    assert set(ours["gradient"]) == set(expected["gradient"])
    for block, keys in expected["gradient"].items():
        for key, value in keys.items():
            # Rounded products leave an error of the size of what was summed.
            scale = 1.0 if kind == "float32" else max(1.0, float(np.abs(value).max()))
            mine = ours["gradient"][block][key]
            assert_close(mine / scale, value / scale, of_gradients, f"{name}: {block} {key}")


def check(name: str, kind: str, **arguments) -> None:
    this = case(name).until(4)
    with precision(kind):
        layer = this.layer(dtype=PRECISIONS[kind], return_state=True, **arguments)
        ours = found(layer, this)
    compare(ours, numbers(this), kind, name)


@precisions
@pytest.mark.parametrize("name", list(kg.presets))
def test_numbers_and_gradient_equal_the_witness(name, kind):
    check(name, kind)


@precisions
@pytest.mark.parametrize("name", LINEAR)
def test_all_time_steps_at_once_equal_the_witness(name, kind):
    check(name, kind, time_parallel=True)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_cho", "t_lstm", "min_gru", "fgr"])
def test_under_a_mask(name):
    this = case(name)
    with precision("float32"):
        ours = found(this.layer(return_state=True), this, mask=MASK)
    compare(ours, under_mask(this, MASK), "float32", name)


def test_under_a_mask_all_at_once():
    this = case("qrnn_fo")
    with precision("float32"):
        ours = found(this.layer(return_state=True, time_parallel=True), this, mask=MASK)
    compare(ours, under_mask(this, MASK), "float32", "qrnn_fo")


@pytest.mark.parametrize("name", ["lstm_peephole", "mgu"])
def test_a_stateful_layer_goes_on_where_it_was(name):
    this = case(name)
    this = Case(name, this.dtype, this.weights, this.x, [0.0 * s for s in this.state], None)
    with precision("float32"):
        layer = this.layer(stateful=True)
        parts = [layer(this.x[:, :4]), layer(this.x[:, 4:])]
    assert_close(ops.concatenate(parts, axis=1), this.expected[0], "float32", name)


def test_both_directions():
    forward, backward = case("lstm"), case("lstm_peephole")
    layer = keras.layers.Bidirectional(
        forward.layer(), backward_layer=backward.layer(go_backwards=True)
    )
    layer.build(forward.x.shape)
    for one, this in ((layer.forward_layer, forward), (layer.backward_layer, backward)):
        one.set_block_weights(this.weights)
    states = [*forward.state, *backward.state]
    with precision("float32"):
        outputs = layer(forward.x, initial_state=states)
    turned = Case(
        backward.name, "float32", backward.weights, forward.x[:, ::-1], backward.state, None
    )
    expected = [forward.expected[0], turned.expected[0][:, ::-1]]
    assert_close(outputs, np.concatenate(expected, axis=-1), "float32", "both directions")


@pytest.mark.skipif(BACKEND != "jax", reason="JAX's loop can join them")
@pytest.mark.parametrize(("name", "kind"), [("lstm", "float32"), ("gru", "bfloat16")])
def test_joined_series(name, kind, traced_anew, monkeypatch):
    monkeypatch.setattr(backend, "JOIN_SERIES", True)
    check(name, kind)


ON_CUDNN = {"jax": ["lstm", "slim_lstm3"], "torch": ["lstm", "gru", "elman"]}.get(BACKEND, [])


@pytest.fixture
def cudnn(device):
    """Nothing runs where there is no cuDNN for the layers."""
    if device == "cpu":
        pytest.skip("a CPU has no cuDNN")


@pytest.mark.parametrize("kind", ["float32", "TF32"])
@pytest.mark.parametrize("name", ON_CUDNN)
def test_on_cudnn(name, kind, cudnn):
    check(name, kind, use_cudnn=True)


@pytest.mark.skipif(BACKEND != "jax", reason="torch's operators take any mask at the end")
def test_lengths_on_cudnn(cudnn):
    """A sequence without a time step is among them."""
    this, lengths = case("lstm"), np.array([T, 1, 0, T - 3])[:B]
    with precision("float32"):
        ours = found(this.layer(return_state=True, use_cudnn=True), this, lengths=lengths)
    mask = np.arange(T) < lengths[:, None]
    compare(ours, under_mask(this, mask), "float32", "lstm")


@precisions
@pytest.mark.parametrize("name", ["lstm", "gru", "janet"])
def test_at_a_size_that_fills_tiles(name, kind):
    """Small matrices may be multiplied by other programs than large ones."""
    this = large(name)
    with precision(kind):
        ours = found(this.layer_of(160, dtype=PRECISIONS[kind], return_state=True), this)
    outputs, final = this.expected
    bound = BOUNDS[kind][0]
    assert_close(ours["outputs"], outputs, bound, f"{name}: outputs")
    assert len(ours["final"]) == len(final)
    for label, a, b in zip("hc", ours["final"], final, strict=False):
        assert_close(a, b, bound, f"{name}: final {label}")
    rng = np.random.default_rng(1)
    for block, keys in this.weights.items():
        for key, value in keys.items():
            direction, mine = rng.standard_normal(value.shape), ours["gradient"][block][key]
            pair = np.sum(mine * direction), slope(this, block, key, direction)
            scale = np.linalg.norm(mine)  # what either is about, before what cancels
            assert_close(*(np.array(v / scale) for v in pair), bound, f"{name}: {block} {key}")


class Large(Case):
    """A case of another size than `helpers` has."""

    def layer_of(self, units: int, **arguments):
        layer = kg.GatedRNN(units, self.name, return_sequences=True, **arguments)
        layer.build(self.x.shape)
        layer.set_block_weights(self.weights)
        return layer


def large(name: str) -> Large:
    """Inputs 96, units 160, 48 time steps of 8 sequences; weights that keep states within reach."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    drawn = draw(name, 96, 160, rng, scale=0.08)
    weights = {b: {k: v.astype("float32") for k, v in keys.items()} for b, keys in drawn.items()}
    shapes = ((8, 48, 96), (8, 48, 160), *[(8, 160)] * WITNESSES[name].states)
    x, upstream, *state = (rng.standard_normal(s, dtype="float32") for s in shapes)
    return Large(name, "float32", weights, x, valid_states(name, state), upstream)


# Planted mistakes -------------------------------------------------------------------------------


def test_a_wrong_slope_is_found(traced_anew, monkeypatch):
    """The memory's slope by the first node is half of what it should be."""
    right = Cut.slopes

    def wrong(self, *values):
        slopes = right(self, *values)
        kinds = [piece.kind for piece in self.pieces]
        slopes[kinds.index("memory")][0] *= 0.5
        return slopes

    monkeypatch.setattr(Cut, "slopes", wrong)
    for kind in BOUNDS:
        with pytest.raises(AssertionError, match="differs by"):
            check("lstm", kind)


def test_a_mask_that_is_not_heeded_is_found(traced_anew, monkeypatch):
    monkeypatch.setattr(sequence, "_where", lambda valid, new, old: new)
    with pytest.raises(AssertionError, match="differs by"):
        test_under_a_mask("lstm")


def test_products_in_less_than_float32_are_found(monkeypatch):
    """Rounded to 8 bits, as in bfloat16, whose bound they keep."""
    right, layer = ops.matmul, case("lstm").until(4).layer(return_state=True)

    def rounded(*given):
        return right(*(ops.cast(ops.cast(x, "bfloat16"), "float32") for x in given))

    monkeypatch.setattr(ops, "matmul", rounded)
    this = case("lstm").until(4)
    ours, expected = found(layer, this), numbers(this)
    compare(ours, expected, "bfloat16", "lstm")
    with pytest.raises(AssertionError, match="differs by"):
        compare(ours, expected, "float32", "lstm")


# The device itself ------------------------------------------------------------------------------


def test_the_layer_computes_on_the_device(device):
    y = kg.GatedLSTM(U)(np.zeros((B, T, F), "float32"))
    where = {
        "jax": lambda: ",".join(d.platform for d in y.devices()),
        "tensorflow": lambda: y.device.rsplit(":", 2)[-2].lower(),
        "torch": lambda: y.device.type,
    }[BACKEND]()
    assert where in (("cpu",) if device == "cpu" else ("gpu", "cuda"))
    assert backend.accelerated() == (device != "cpu")


def test_tf32_is_off_where_it_is_switched_off(device):
    """And on where it is on, which float32's bound would not allow."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((512, 512), dtype="float32") for _ in range(2))
    exact = a.astype("float64") @ b.astype("float64")
    errors = []
    for on in (False, True):
        with tf32(on):
            product = ops.convert_to_numpy(ops.matmul(a, b))
        errors.append(float(np.linalg.norm(product - exact) / np.linalg.norm(exact)))
    print(f"without TF32 {errors[0]:.1e}, with it {errors[1]:.1e}")
    assert errors[0] < 1e-6
    if device == "cpu":
        pytest.skip("a CPU has no TF32")
    assert 1e-5 < errors[1] < 1e-3
