"""The printed equations are the cell's numbers; counts, budgets, differences, text."""

import dataclasses

import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.preset_lookup import as_spec
from tests.helpers import FINEST, TOLERANCE, raises
from tests.latex import evaluate
from tests.reference import WITNESSES

U, F, T, B = 5, 3, 8, 4
LETTER = {"input": "i", "forget": "f", "reset": "r", "candidate": "c", "output": "o"}
SYMBOL = {"bias": "b", "recurrent_bias": "b'", "peephole": "p", "decay": r"\lambda"}
SYMBOL |= {"scale": r"\zeta", "shift": r"\nu"}

CUSTOM = {
    "offset and complement": kg.CellSpec(
        input_gate=kg.Tied("forget", complement=True, offset=-0.7), output_gate=kg.Tied("forget")
    ),
    "constant reset, reset after": kg.CellSpec(
        memory="hidden",
        input_gate=kg.Gate(kernel="identity", recurrent_kernel="diagonal"),
        forget_gate=0.3,
        reset_gate=0.5,
        candidate=kg.Candidate(reset_after=True, activation="softsign"),
    ),
    "reset tied with offset": kg.CellSpec(
        forget_gate=kg.Tied("input", complement=True),
        reset_gate=kg.Tied("input", offset=0.25),
        candidate=kg.Candidate(reset_after=True),
        output_activation="half_tanh",
    ),
    "reset of an identity": kg.CellSpec(
        reset_gate=True, candidate=kg.Candidate("diagonal", "identity", activation="elu")
    ),
    "everything rare": kg.CellSpec(
        input_gate=kg.Gate(peephole=True, recurrent_input_activation="tanh"),
        forget_gate=kg.Gate(activation="hard_sigmoid", input_activation="tanh"),
        candidate=kg.Candidate(kernel="diagonal", activation="softplus"),
        memory_activation="double_half_tanh",
        carry_activation="one_plus_tanh",
        output_activation="softsign",
        gate_recurrence=True,
        input_projection=kg.Projection("relu"),
        input_window=3,
    ),
    "input shown": kg.CellSpec(
        output_gate=kg.Tied("forget", complement=True),
        input_skip=True,
        input_projection=kg.Projection("tanh"),
    ),
    "input shown by a constant": kg.CellSpec(
        output_gate=0.25, input_skip=True, input_projection=kg.Projection()
    ),
    "peephole before the step": kg.CellSpec(
        forget_gate=kg.Gate(peephole="previous"), output_gate=kg.Gate(peephole="previous")
    ),
    "shared by three": kg.CellSpec(
        forget_gate=kg.Gate(shares="candidate", peephole=True),
        input_gate=kg.Tied("forget", offset=0.2, trained=True),
        output_gate=kg.Gate(shares="candidate", use_bias=False),
    ),
    "blocks": kg.CellSpec(
        input_gate=kg.Gate(kernel=kg.Blocks(1), recurrent_kernel=kg.Blocks(5)),
        forget_gate=kg.Gate(recurrent_kernel=kg.Blocks(1), peephole=True),
        candidate=kg.Candidate(recurrent_kernel=kg.Blocks(5)),
    ),
    "scale of a constant": kg.CellSpec(forget_gate=0.6, input_scale="root"),
    "decays of two gates": kg.CellSpec(
        input_gate=kg.Gate(peephole=True, decay=0.5),
        forget_gate=kg.Gate(decay=2),
        output_gate=kg.Tied("forget", complement=True, offset=0.4),
        input_scale="root",
    ),
    "normaliser of a decay": kg.CellSpec(
        input_gate=kg.Gate(activation="exp"), forget_gate=kg.Gate(decay=1.5), normalizer=True
    ),
    "normaliser of constants": kg.CellSpec(
        input_gate=kg.Gate(recurrent_kernel=None, activation="exp"),
        forget_gate=0.7,
        output_gate=kg.Tied("input"),
        output_activation="tanh",
        normalizer=True,
    ),
    "normaliser of one gate": kg.CellSpec(
        input_gate=kg.Tied("forget", offset=0.3),
        forget_gate=kg.Gate(activation="exp"),
        normalizer=True,
    ),
    "only the memory decays": kg.CellSpec(forget_gate=0.5, input_gate=0.25, output_gate=1.0),
}


def symbols(blocks: dict) -> dict:
    """The weights under the letters of the equations."""
    values = {}
    for block, weights in blocks.items():
        k = LETTER.get(block, "x")
        for key, weight in weights.items():
            weight = np.asarray(ops.convert_to_numpy(weight))
            if key == "gate_recurrent_kernel":
                values |= {f"R_{{{j}{k}}}": w for j, w in zip("ifo", weight, strict=True)}
            elif key in SYMBOL:
                values[f"{SYMBOL[key]}_{k}"] = weight
            else:
                letter = "W" if key == "kernel" else "U"
                name = f"{letter if weight.ndim > 1 else letter.lower()}_{k}"
                values[name] = weight
                if weight.ndim == 3:
                    values[f"{name}^{{({len(weight)})}}"] = block_diagonal(weight)
    return values


def block_diagonal(blocks: np.ndarray) -> np.ndarray:
    """The matrix with these blocks on its diagonal."""
    (n, rows, columns), matrix = blocks.shape, np.zeros(np.multiply(len(blocks), blocks.shape[1:]))
    for k in range(n):
        matrix[k * rows : (k + 1) * rows, k * columns : (k + 1) * columns] = blocks[k]
    return matrix


def as_printed(spec, blocks: dict, x: np.ndarray, states: list) -> np.ndarray:
    """The outputs (B, T, U) that the printed equations give."""
    values = symbols(blocks)
    names = [LETTER.get(name, name) for name in resolve(as_spec(spec)).states]
    values |= {f"{k}_{{t-1}}": s for k, s in zip(names, states, strict=True)}
    values |= {f"x_{{t-{lag}}}": np.zeros_like(x[:, 0]) for lag in (1, 2)}
    outputs = []
    for t in range(x.shape[1]):
        values = evaluate(kg.equations(spec), values | {"x_t": x[:, t]})
        outputs.append(values["h_t"])
        values["x_{t-2}"], values["x_{t-1}"] = values["x_{t-1}"], x[:, t]
        before = {f"{k}_{{t-1}}": values[f"{k}_t"] for k in names if f"{k}_t" in values}
        values |= {k: v for k, v in before.items() if k in values}
    return np.stack(outputs, axis=1)


def check_equations(spec, features: int = F) -> None:
    rng = np.random.default_rng(7)
    layer = kg.GatedRNN(U, spec, return_sequences=True, dtype=FINEST)
    layer.build((B, T, features))
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    x = rng.normal(size=(B, T, features))
    states = [rng.normal(size=(B, U)) for _ in layer.cell.state_size]
    if "n" in layer.cell.form.states:  # the cell divides by it
        states[2] = abs(states[2]) + 0.5
    before = [np.zeros((B, size)) for size in layer.state_size[len(states) :]]
    actual = ops.convert_to_numpy(layer(x, initial_state=[*states, *before]))
    expected = as_printed(spec, layer.block_weights(), x, states)
    assert np.abs(expected).max() > 1e-3
    error = np.abs(actual - expected) / np.maximum(1.0, np.abs(expected))
    assert error.max() <= TOLERANCE[FINEST], f"{error.max():.1e}"


@pytest.mark.parametrize("name", kg.presets)
def test_printed_equations_are_the_cells_numbers(name):
    check_equations(name, U if WITNESSES[name].square else F)


@pytest.mark.parametrize("name", CUSTOM)
def test_printed_equations_of_custom_cells(name):
    square = name in ("constant reset, reset after", "reset of an identity")
    check_equations(CUSTOM[name], U if square else F)


def test_a_wrong_equation_is_found(monkeypatch):
    right = kg.equations("lstm")
    assert r"f_t \odot c_{t-1}" in right
    monkeypatch.setattr(kg, "equations", lambda spec: right.replace("f_t \\odot", "i_t \\odot"))
    with pytest.raises(AssertionError):
        check_equations("lstm")


def test_the_evaluator_refuses_what_it_does_not_know():
    with pytest.raises(AssertionError, match="not understood"):
        evaluate("\\begin{aligned}\nh_t &= x_t ? 2\n\\end{aligned}", {"x_t": np.ones(2)})


# Counts ------------------------------------------------------------------------------------------


def test_sizes_of_the_2014_paper():
    """Chung et al. 2014, Table 1, speech: 20 inputs."""
    assert kg.count_parameters("elman", input_dim=20, units=400) == 168_400
    assert kg.count_parameters("gru_chung", input_dim=20, units=227) == 168_888
    assert kg.count_parameters("gru_cho", input_dim=20, units=227) == 168_888
    assert kg.count_parameters("lstm_peephole", input_dim=20, units=195) == 169_065


@pytest.mark.parametrize("name", kg.presets)
def test_units_for_budget_is_the_largest_that_fits(name):
    square = WITNESSES[name].square
    budget = 20_000 if square else 5_000
    units = kg.units_for_budget(name, input_dim=10, parameters=budget)
    assert kg.count_parameters(name, 10, units) <= budget
    if square:
        assert units == 10
    else:
        assert kg.count_parameters(name, 10, units + 1) > budget


def test_flops_counted_by_hand():
    m, n = 7, 5
    products = 2 * 4 * n * (m + n)
    gates = 3 * (2 + 1)  # two sums and the squashing
    candidate, memory, output = 2 + 1, 3, 2
    assert kg.count_flops("lstm", m, n) == products + n * (gates + candidate + memory + output)
    assert kg.count_flops("slim_lstm6", m, n) < kg.count_flops("mgu", m, n)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: kg.count_parameters("lstm", 0, 5), "`input_dim`...input_dim=0"),
        (lambda: kg.count_parameters("lstm", 3, -1), "`units`...units=-1"),
        (lambda: kg.count_flops("lstm", 3, 2.5), "`units`...units=2.5"),
        (lambda: kg.units_for_budget("lstm", 88, 10), "`parameters`...360...parameters=10"),
        (lambda: kg.units_for_budget("lstm", -1, 10), "`input_dim`...input_dim=-1"),
        (lambda: kg.count_parameters("mut1", 3, 5), "`units`...units=5, input features=3"),
    ],
)
def test_counts_refuse(call, text):
    raises(call, text)


# Text --------------------------------------------------------------------------------------------


def test_describe_names_what_matters():
    text = kg.describe("nfg", input_dim=88, units=36)
    for part in ("nfg: no forget gate", "cₜ = cₜ₋₁ + iₜ ⊙ c̃ₜ", "Greff et al. 2017", "1503.04069"):
        assert part in text
    assert f"{kg.count_parameters('nfg', 88, 36):,} with 88 inputs and 36 units" in text
    assert "LSTM" in text.split("ONNX")[1]


@pytest.mark.parametrize("name", kg.presets)
def test_every_preset_can_be_described(name):
    text = kg.describe(name, 6, 6)
    found = kg.presets[name]
    assert text.startswith(f"{name}: {found.title}")
    assert "\\" not in text and "{" not in text.split("Arguments")[0]
    assert found.paper and found.title


def test_describe_a_custom_cell():
    assert kg.describe(CUSTOM["offset and complement"]).startswith("custom cell")


def test_diff():
    difference = kg.diff("lstm", "cifg")
    assert "forget kernel" in difference.only_first
    assert "input peephole" in difference.only_second
    assert "fₜ = 1 - iₜ" in difference.only_second
    assert "+ fₜ = 1 - iₜ" in str(difference)
    assert str(kg.diff("lstm", "np")) == "lstm and np are the same cell."


def test_diff_of_custom_cells():
    spec = dataclasses.replace(kg.preset("lstm"), forget_gate=1.0)
    assert "state c" not in kg.diff("lstm", spec).only_first
    assert kg.diff("gru", "lstm").only_second[0] == "state c"
    assert str(kg.diff("lstm", spec)).startswith("- lstm\n+ second")
