"""Every preset beside its witness: numbers, gradients, live weights, counts, weights by meaning."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import (
    FINEST,
    QUICK,
    TOLERANCE,
    B,
    F,
    U,
    assert_close,
    case,
    check_forward,
    check_gradient,
    dead_blocks,
    numpy_blocks,
)
from tests.reference import WITNESSES, draw, run
from tests.typical import CHOSEN, OTHERS, TYPICAL, parts_of, with_every_part

NAMES = list(kg.presets)
every = pytest.mark.parametrize("name", NAMES)
SQUARE = [name for name in NAMES if WITNESSES[name].square]
dtypes = pytest.mark.parametrize("dtype", sorted({"float32", FINEST}))

ARGUMENTS = [(name, given) for name in NAMES for given in WITNESSES[name].settings]
arguments = pytest.mark.parametrize(("name", "given"), ARGUMENTS)


@pytest.mark.catalogue
def test_presets_and_witnesses_have_the_same_names():
    assert set(NAMES) == set(WITNESSES)
    assert "mut1" in SQUARE


@pytest.mark.catalogue
def test_the_typical_presets_have_every_kind_of_part():
    def parts(names):
        return set().union(*map(parts_of, names))

    assert parts(TYPICAL) == parts(kg.presets) and len(TYPICAL) < len(OTHERS)
    few = [name for name in CHOSEN if name != "fgr"]
    assert "fgr" in with_every_part(few, list(kg.presets))  # one of a new kind is added


@every
@dtypes
def test_forward_equals_the_witness(name, dtype):
    check_forward(name, dtype)


@every
def test_gradient_equals_central_differences_and_no_weight_is_dead(name):
    by_block = check_gradient(name)
    # A ReLU unit that is below zero at every step of every sequence has no gradient: right so.
    relu = kg.preset(name).candidate.activation == "relu"
    assert dead_blocks(by_block, share=0.5 if relu else 0.9) == []


@every
@pytest.mark.parametrize("size", [(F, U), (7, 4)])
def test_count_equals_the_formula(name, size):
    m, n = (size[1], size[1]) if name in SQUARE else size
    layer = kg.GatedRNN(n, name, **QUICK)
    layer.build((None, None, m))
    expected = WITNESSES[name].parameters(m, n)
    assert layer.count_params() == expected
    assert kg.count_parameters(name, input_dim=m, units=n) == expected


# Arguments --------------------------------------------------------------------------------------


@every
def test_every_argument_is_tested_at_another_value(name):
    tested = {key for given in WITNESSES[name].settings for key in given}
    assert tested == set(kg.presets[name].arguments) - {"input_projection"}  # a test of its own


@arguments
@dtypes
def test_argument_forward(name, given, dtype):
    check_forward(name, dtype, **given)


@arguments
def test_argument_gradient(name, given):
    check_gradient(name, **given)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("name", [n for n in NAMES if "window" in kg.presets[n].arguments])
def test_count_with_a_window(name, window):
    expected = WITNESSES[name].parameters(F, U, window=window)
    assert kg.count_parameters(kg.preset(name, window=window), input_dim=F, units=U) == expected
    layer = kg.GatedRNN(U, kg.preset(name, window=window))
    layer.build((None, None, F))
    assert layer.count_params() == expected


@pytest.mark.parametrize(
    "name", [n for n in NAMES if "input_projection" in kg.presets[n].arguments]
)
def test_projected_mutation_is_the_literal_one_of_the_projected_input(name):
    rng, this = np.random.default_rng(1), case(name)
    projection = {"kernel": rng.standard_normal((F, U)), "bias": rng.standard_normal(U)}
    x = rng.standard_normal((B, 8, F))
    expected, _ = run(name, this.weights, x @ projection["kernel"] + projection["bias"], this.state)

    spec = kg.preset(name, input_projection=True)
    layer = kg.GatedRNN(U, spec, return_sequences=True)
    layer.build(x.shape)
    layer.set_block_weights(this.weights | {"projection": projection})
    outputs = layer(x.astype("float32"), initial_state=this.state)
    assert_close(outputs, expected, "float32", f"{name}: outputs")
    expected = WITNESSES[name].parameters(U, U) + (F + 1) * U
    assert kg.count_parameters(spec, input_dim=F, units=U) == expected == layer.count_params()


# Weights by meaning -----------------------------------------------------------------------------


@every
def test_block_weights_are_the_witness_weights_and_go_round(name):
    this = case(name)
    layer = this.layer()
    blocks = numpy_blocks(layer)
    found = {b: {k: v.shape for k, v in keys.items()} for b, keys in blocks.items()}
    assert found == {b: {k: v.shape for k, v in ks.items()} for b, ks in this.weights.items()}
    for block, keys in blocks.items():
        for key, value in keys.items():
            assert_close(value, this.weights[block][key], "reload", f"{block} {key}")
    weights = layer.get_weights()
    layer.set_weights([0.0 * w for w in weights])
    layer.set_block_weights(blocks)
    for old, new in zip(weights, layer.get_weights(), strict=True):
        assert_close(new, old, "reload", name)


@pytest.mark.parametrize("name", ["elman", "slim_lstm6", "lstm"])
def test_block_weights_are_tensors(name):
    """Also where a weight is one block alone: not Keras's variable, which NumPy warns about."""
    blocks = case(name).layer().block_weights()
    values = [value for keys in blocks.values() for value in keys.values()]
    assert all(keras.ops.is_tensor(value) for value in values)
    assert not any(isinstance(value, keras.Variable) for value in values)


def test_set_block_weights_of_the_cell_and_of_the_layer_are_one():
    this = case("mgu")
    layer, cell = this.layer(), kg.GatedCell(U, "mgu")
    cell.build((B, F))
    cell.set_block_weights(layer.block_weights())
    for old, new in zip(layer.get_weights(), cell.get_weights(), strict=True):
        assert_close(new, old, "reload", "mgu")


def _less(blocks):
    del blocks["candidate"]["bias"]


def _more(blocks):
    blocks["reset"] = {"bias": np.zeros(U)}


def _other_shape(blocks):
    blocks["candidate"]["bias"] = np.zeros(1)  # would broadcast


def _transposed(blocks):
    blocks["input"]["kernel"] = blocks["input"]["kernel"].T


@pytest.mark.parametrize("spoil", [_less, _more, _other_shape, _transposed])
def test_set_block_weights_refuses_another_structure(spoil):
    layer = case("mgu").layer()
    before, blocks = layer.get_weights(), draw("mgu", F, U, np.random.default_rng(2))
    spoil(blocks)
    with pytest.raises(ValueError, match="structure and shapes"):
        layer.set_block_weights(blocks)
    for old, new in zip(before, layer.get_weights(), strict=True):
        assert_close(new, old, "reload", "mgu")


def test_tolerances_of_the_table_are_those_promised():
    promised = {"float32": 1e-5, "float64": 1e-12, "xla": 1e-5, "reload": 0.0}
    assert promised.items() <= TOLERANCE.items()
