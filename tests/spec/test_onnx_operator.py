"""The lowering alone: ONNX's equations in NumPy, with packed weights, against the witness."""

from dataclasses import replace

import numpy as np
import pytest

import keras_gated as kg
from keras_gated.onnx.tracing.operator_inputs import pack
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import NativeOperator, OperatorBlock, find_native_operator
from keras_gated.spec.operator_weights import input_width
from keras_gated.spec.parts import Candidate, Gate, Projection, Tied
from tests.helpers import F, U, case
from tests.reference import WITNESSES

FUNCTIONS = {
    "Sigmoid": lambda a, _alpha, _beta: 1 / (1 + np.exp(-a)),
    "Tanh": lambda a, _alpha, _beta: np.tanh(a),
    "Relu": lambda a, _alpha, _beta: np.maximum(a, 0),
    "Affine": lambda a, alpha, beta: alpha * a + beta,
    "ScaledTanh": lambda a, alpha, beta: alpha * np.tanh(beta * a),
    "HardSigmoid": lambda a, alpha, beta: np.clip(alpha * a + beta, 0, 1),
}
OUTSIDE = {
    None: lambda x: x,
    "linear": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def operator(lowering: NativeOperator, packed: dict, x, h, c):
    """ONNX's RNN, GRU or LSTM over x (B, T, I): outputs (B, T, U), and the last h and c."""
    w, r = packed["W"][0].astype("float64"), packed["R"][0].astype("float64")
    k = len(lowering.blocks)
    wb, rb = np.split(packed["B"][0].astype("float64"), 2)
    peepholes = np.split(packed.get("P", np.zeros((1, 3 * U)))[0].astype("float64"), 3)
    act = [lambda a, n=n, al=al, be=be: FUNCTIONS[n](a, al, be) for n, al, be in lowering.functions]
    outputs = []
    for t in range(x.shape[1]):
        xs = np.split(x[:, t] @ w.T + wb, k, axis=1)
        hs = np.split(h @ r.T + rb, k, axis=1)
        if lowering.operator == "RNN":
            h = act[0](xs[0] + hs[0])
        elif lowering.operator == "GRU":
            z, reset = act[0](xs[0] + hs[0]), act[0](xs[1] + hs[1])
            last = reset * hs[2]
            if not lowering.linear_before_reset:
                last = (reset * h) @ r[2 * U :].T + rb[2 * U :]
            h = (1 - z) * act[1](xs[2] + last) + z * h
        else:
            i = act[0](xs[0] + hs[0] + peepholes[0] * c)
            f = act[0](xs[2] + hs[2] + peepholes[2] * c)
            c = f * c + i * act[1](xs[3] + hs[3])
            h = act[0](xs[1] + hs[1] + peepholes[1] * c) * act[2](c)
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c


def computed_outside(form, lowering: NativeOperator, weights: dict, x):
    """The operator's input and the output gate, by hand from what the lowering says."""
    lags = [np.pad(x, ((0, 0), (lag, 0), (0, 0)))[:, : x.shape[1]] for lag in range(form.window)]
    x = np.concatenate(lags, axis=2)
    if form.projection:
        projection = weights["projection"]
        x = x @ projection["kernel"] + projection["bias"]
        x = OUTSIDE[form.projection.activation](x)

    def value(name):
        w, block = weights[name], form.blocks[name]
        return OUTSIDE[block.activation](x @ w["kernel"] + w.get("bias", 0))

    parts = [OUTSIDE[phi](x) for phi in lowering.input_functions]
    if "candidate" in lowering.outside:
        i = value("input") if "input" in lowering.outside else 1.0
        parts.append(i * value("candidate"))
    gate = value("output") if "output" in lowering.outside else 1.0
    return np.concatenate(parts, axis=2), gate, x.shape[2]


def error(name: str, spoil=lambda lowering: lowering) -> float:
    """Largest relative difference of the lowered preset from its witness, by way of `spoil`."""
    this = case(name)
    form = resolve(kg.preset(name))
    lowering = spoil(find_native_operator(form))
    x, gate, inputs = computed_outside(form, lowering, this.weights, this.x.astype("float64"))
    packed = pack(lowering, this.weights, inputs, U)
    assert packed["W"].shape == (1, len(lowering.blocks) * U, input_width(lowering, inputs, U))
    assert x.shape[2] == packed["W"].shape[2]
    h = np.asarray(this.state[0], "float64")
    c = h if lowering.single_state or len(this.state) == 1 else np.asarray(this.state[1], "float64")
    y, last, memory = operator(lowering, packed, x, h, c)
    y = y * gate
    last = y[:, -1]
    expected, final = this.expected
    found = [(y, expected), (last, final[0])]
    found += [(memory, final[1])] if len(final) == 2 else []
    return max(np.max(np.abs(a - b) / np.maximum(1, np.abs(b))) for a, b in found)


@pytest.mark.parametrize("name", kg.presets)
def test_the_operator_of_a_preset(name):
    """The one that its witness says, with packed weights that compute what the witness does."""
    lowering, expected = find_native_operator(resolve(kg.preset(name))), WITNESSES[name]
    assert lowering.operator == expected.native
    if expected.native:
        assert lowering.reason
        assert error(name) < 1e-5
    else:
        assert lowering.reason.startswith(expected.no_operator)
        assert lowering.attributes == {}


@pytest.mark.catalogue
def test_some_presets_have_no_operator():
    assert 0 < sum(not witness.native for witness in WITNESSES.values()) < 20


def swapped(a: str, b: str):
    def spoil(lowering: NativeOperator) -> NativeOperator:
        rows = dict(lowering.blocks)
        rows[a], rows[b] = rows[b], rows[a]
        return replace(lowering, blocks=rows)

    return spoil


def row(letter: str, **changes):
    def spoil(lowering: NativeOperator) -> NativeOperator:
        changed = replace(lowering.blocks[letter], **changes)
        return replace(lowering, blocks={**lowering.blocks, letter: changed})

    return spoil


MISTAKES = {
    "input and output swapped": ("lstm", swapped("i", "o")),
    "forget and candidate swapped": ("lstm", swapped("f", "c")),
    "update and reset swapped": ("gru", swapped("z", "r")),
    "complement not negated": ("cifg", row("f", scale=1.0)),
    "who writes keeps": ("gru_chung", row("z", scale=1.0)),
    "who keeps writes": ("gru_cho", row("z", scale=-1.0)),
    "offset forgotten": ("janet", row("i", shift=0.0)),
    "gate not saturated": ("nfg", row("f", shift=2.0)),
    "gate closed": ("nig", row("i", shift=-100.0)),
    "constant forgotten": ("slim_lstm4a", row("f", shift=100.0)),
    "reset not doubled": ("nbrc", row("r", scale=1.0)),
    "product not doubled": ("nbrc", row("c", recurrent=1.0)),
    "peepholes dropped": ("lstm_peephole", lambda found: replace(found, peepholes=False)),
    "reset on the wrong side": ("gru_cho", lambda found: replace(found, linear_before_reset=1)),
    "reset on the other side": ("gru", lambda found: replace(found, linear_before_reset=0)),
    "squashed": ("niaf", lambda found: replace(found, functions=operator_of("lstm").functions)),
    "input functions in the wrong order": ("mut1", lambda found: found),
}


def operator_of(name: str) -> NativeOperator:
    return find_native_operator(resolve(kg.preset(name)))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_shows(mistake, monkeypatch):
    name, spoil = MISTAKES[mistake]
    if mistake == "input functions in the wrong order":  # in the packing, not in the operator
        monkeypatch.setitem(OUTSIDE, None, np.tanh)
        monkeypatch.setitem(OUTSIDE, "tanh", lambda x: x)
    assert error(name, spoil) > 1e-3


def hidden(**parts) -> CellSpec:
    return CellSpec(memory="hidden", **parts)


COUPLED = Tied("forget", complement=True)


def test_forms_that_accelerators_take():
    for name in ("lstm", "gru", "gru_no_reset", "cifg", "nig", "s_lstm", "slim_lstm4a", "nbrc"):
        attributes = operator_of(name).attributes
        assert attributes.get("activations") is None, name
        assert attributes.get("linear_before_reset", 1) == 1, name
    assert operator_of("gru_no_reset").attributes == {"linear_before_reset": 1}
    assert not operator_of("lstm").peepholes
    assert find_native_operator(resolve(kg.preset("janet", beta=0.0))).operator == "GRU"
    # Where each unit feeds itself alone, the reset may act on either side.
    assert operator_of("brc").linear_before_reset == 1


def test_a_constant_reset_is_in_the_recurrent_kernel():
    spec = hidden(input_gate=COUPLED, reset_gate=0.25)
    lowering = find_native_operator(resolve(spec))
    assert (lowering.operator, lowering.blocks["c"].recurrent) == ("GRU", 0.25)
    assert lowering.blocks["r"] == OperatorBlock(shift=100.0)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (CellSpec(reset_gate=Gate()), "reset_gate with memory='cell'"),
        (hidden(reset_gate=Gate()), "reset_gate with input and forget gates"),
        (CellSpec(output_gate=Gate(activation="tanh")), "activation of the gates differs"),
        (CellSpec(forget_gate=1.5), "forget_gate=1.5"),
        (
            CellSpec(candidate=Candidate(activation="gelu"), output_activation="tanh"),
            "activation of the candidate",
        ),
        (CellSpec(output_activation="gelu"), "output_activation"),
        (CellSpec(recurrent_activation="gelu"), "activation of the input gate"),
        (
            CellSpec(input_gate=COUPLED, recurrent_activation="tanh"),
            "input_gate: it is the complement of a gate with activation Tanh",
        ),
        (
            CellSpec(input_gate=Gate(peephole=True), output_gate=Tied("input")),
            "output_gate tied to a gate with a peephole",
        ),
        (
            hidden(
                input_gate=COUPLED,
                recurrent_activation="tanh",
                reset_gate=Gate(activation="one_plus_tanh"),
            ),
            "reset_gate with activation 'one_plus_tanh'",
        ),
    ],
)
def test_reasons(spec, field):
    lowering = find_native_operator(resolve(spec))
    assert lowering.operator is None
    assert lowering.reason.startswith(field)


@pytest.mark.parametrize(
    ("activation", "gate", "bias"),
    [
        ("sigmoid", 1.0, 100.0),
        ("sigmoid", 0.25, np.log(0.25 / 0.75)),
        ("hard_sigmoid", 1.0, 100.0),
        ("hard_sigmoid", 0.25, -1.5),
        ("tanh", 1.0, 100.0),
        ("tanh", 0.25, np.arctanh(0.25)),
        ("relu", 1.5, 1.5),
        ("linear", -1.5, -1.5),
    ],
)
def test_constants_under_every_gate_activation(activation, gate, bias):
    lowering = find_native_operator(
        resolve(CellSpec(forget_gate=gate, recurrent_activation=activation))
    )
    assert lowering.operator == "LSTM"
    assert lowering.blocks["f"].shift == pytest.approx(bias)


def test_constants_alone_choose_their_activation():
    spec = CellSpec(input_gate=1.0, forget_gate=1.25, output_gate=1.0)
    lowering = find_native_operator(resolve(spec))
    assert lowering.functions[0] == ("Affine", 1.0, 0.0)
    assert [lowering.blocks[k].shift for k in "iof"] == [1.0, 1.0, 1.25]


def test_a_candidate_that_sees_only_the_input_may_have_any_activation():
    free = Candidate(recurrent_kernel=None, activation="gelu")
    lowering = find_native_operator(resolve(hidden(input_gate=COUPLED, candidate=free)))
    assert (lowering.operator, lowering.outside) == ("GRU", {"candidate"})
    projected = replace(hidden(input_gate=COUPLED), input_projection=Projection("gelu"))
    assert find_native_operator(resolve(projected)).operator == "GRU"


def test_shapes_do_not_fit_by_accident():
    assert F != U
    assert {WITNESSES[name].square for name in ("mut1", "mut2")} == {True}
