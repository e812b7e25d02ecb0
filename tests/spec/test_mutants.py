"""Known mistakes, planted: the checks that pass every preset must fail each of them.

A mistake is planted where the package has one place for it: in the normal form, in the weights on
their way to the formula, or in the formula's step.
"""

from dataclasses import replace
from functools import cache

import pytest
from keras import ops

import keras_gated as kg
from keras_gated import cell as cell_module
from keras_gated.engine.formula import Formula, split
from keras_gated.spec.activations import Floored
from keras_gated.spec.kernels import as_kernel
from keras_gated.spec.normal_form import resolve
from tests.helpers import BACKEND, case, check_forward, check_gradient, dead_blocks, gradient_of


def with_gate(form, gate, **fields):
    return replace(form, gates=form.gates | {gate: replace(form.gates[gate], **fields)})


def with_block(form, block, **fields):
    return replace(form, blocks=form.blocks | {block: replace(form.blocks[block], **fields)})


# In the normal form: form -> form ---------------------------------------------------------------


def flipped_mix(form):
    """z keeps where it should write, and the other way round."""
    for gate in ("forget", "input"):
        form = with_gate(form, gate, complement=not form.gates[gate].complement)
    return form


FORMS = {
    "flipped mix of a gate that keeps": ("gru_cho", flipped_mix),
    "flipped mix of a gate that writes": ("gru_chung", flipped_mix),
    "complement ignored": ("cifg", lambda f: with_gate(f, "forget", complement=False)),
    "offset of a tie ignored": ("janet", lambda f: with_gate(f, "input", offset=0.0)),
    "offset of the wrong sign": ("janet", lambda f: with_gate(f, "input", offset=1.0)),
    "offset on the gate itself": ("janet", lambda f: with_gate(f, "forget", offset=-1.0)),
    "constant gate ignored": ("leaky_rnn", lambda f: with_gate(f, "forget", constant=1.0)),
    "constant of another paper": ("slim_lstm6", lambda f: with_gate(f, "forget", constant=0.96)),
    "absent gate read from another": (
        "lstm_o",
        lambda f: with_gate(f, "output", constant=None, block="forget"),
    ),
    "missing squash of the output": ("lstm", lambda f: replace(f, output_activation="linear")),
    "squash of the output where there is none": (
        "qrnn_fo",
        lambda f: replace(f, output_activation="tanh"),
    ),
    "plain tanh for the squash of 1997": (
        "lstm_1997",
        lambda f: with_block(f, "candidate", activation="tanh"),
    ),
    "wrong activation of a gate": (
        "lstm",
        lambda f: with_block(f, "forget", activation="hard_sigmoid"),
    ),
    "printed tanh of the output gate": (
        "lstm_b",
        lambda f: with_block(f, "output", activation="tanh"),
    ),
    "tanh for ReLU": ("li_gru", lambda f: with_block(f, "candidate", activation="tanh")),
    "reset after instead of before": ("gru_cho", lambda f: replace(f, reset="after")),
    "reset before instead of after": ("gru", lambda f: replace(f, reset="before")),
    "reset ignored": ("mgu", lambda f: replace(f, reset="none")),
    "activation of the carry ignored": ("cfn", lambda f: replace(f, carry_activation="linear")),
    "activation of the memory ignored": ("star", lambda f: replace(f, memory_activation="linear")),
    "activation of the input ignored": (
        "mut1",
        lambda f: with_block(f, "candidate", input_activation=None),
    ),
    "activation of h in a gate ignored": (
        "mut3",
        lambda f: with_block(f, "input", recurrent_input_activation=None),
    ),
    "projection not squashed": ("minimal_rnn", lambda f: replace(f, projection=kg.Projection())),
    "diagonal kernel as identity": (
        "ind_rnn",
        lambda f: with_block(f, "candidate", recurrent_kernel=as_kernel("identity")),
    ),
    "complement of a trained tie ignored": (
        "fast_grnn",
        lambda f: with_gate(f, "input", complement=False),
    ),
    "trained numbers of a tie ignored": ("fast_grnn", lambda f: with_gate(f, "input", trained="")),
    "input shown left out": ("sru", lambda f: replace(f, input_skip=False)),
    "peephole of the output gate at c_t": (
        "sru",
        lambda f: with_block(f, "output", peephole="current"),
    ),
    "scale of what is written ignored": ("rg_lru", lambda f: replace(f, input_scale=None)),
    "decay of another number": ("rg_lru", lambda f: with_block(f, "forget", decay=1.0)),
    "exponential gate as sigmoid": (
        "xlstm_slstm",
        lambda f: with_block(f, "input", activation="sigmoid"),
    ),
    "reset of h where the whole candidate is reset": (
        "block_gru",
        lambda f: replace(f, reset="before"),
    ),
    "reset of the product where the whole candidate is reset": (
        "block_gru",
        lambda f: replace(f, reset="after"),
    ),
    "floor ignored": ("hgrn_real", lambda f: with_block(f, "forget", activation="sigmoid")),
    "another floor": (
        "hgrn_real",
        lambda f: with_block(f, "forget", activation=Floored("sigmoid", 0.4)),
    ),
    "one gate not divided by the sum": ("min_lstm", lambda f: with_gate(f, "input", other="")),
    "gates divided by twice themselves": (
        "min_lstm",
        lambda f: with_gate(f, "input", other="input"),
    ),
    "gate between 0 and 1 where it reaches 2": (
        "brc",
        lambda f: with_block(f, "reset", activation="sigmoid"),
    ),
}

# In the weights: (cell, tensors) -> tensors -----------------------------------------------------


def blocks_of(cell, name, tensors):
    return split(next(w.blocks for w in cell.form.weights if w.name == name), tensors[name])


def stacked(cell, name, tensors, blocks):
    order = next(w.blocks for w in cell.form.weights if w.name == name)
    return tensors | {name: ops.concatenate([blocks[k] for k in order], axis=-1)}


def zeroed(name, *wanted):
    """The weight `name` of the blocks `wanted` (of all, if none is said) is not used."""

    def mutate(cell, tensors):
        blocks = blocks_of(cell, name, tensors)
        zeros = {k: ops.zeros_like(blocks[k]) for k in wanted or blocks}
        return stacked(cell, name, tensors, blocks | zeros)

    return mutate


def swapped(one, other):
    """Two blocks change places in every weight that has both."""

    def mutate(cell, tensors):
        for name in tensors:
            blocks = blocks_of(cell, name, tensors)
            if one in blocks and other in blocks:
                swap = {one: blocks[other], other: blocks[one]}
                tensors = stacked(cell, name, tensors, blocks | swap)
        return tensors

    return mutate


def transposed(cell, tensors):
    blocks = blocks_of(cell, "recurrent_kernel", tensors)
    turned = {k: ops.transpose(v) for k, v in blocks.items()}
    return stacked(cell, "recurrent_kernel", tensors, turned)


def bias_outside_the_reset(cell, tensors):
    """b'_c joins b_c."""
    first, second = ops.unstack(tensors["bias"], axis=0)
    return tensors | {"bias": ops.stack([first + second, ops.zeros_like(second)])}


def gates_in_another_order(cell, tensors):
    """The kernels from the previous i, f, o are read as those from f, i, o."""
    i, f, o = ops.split(tensors["gate_recurrent_kernel"], 3, axis=0)
    return tensors | {"gate_recurrent_kernel": ops.concatenate([f, i, o], axis=0)}


def window_from_the_earliest(cell, tensors):
    """The kernel's rows are read as x_{t-1} first, then x_t."""
    now, before = ops.split(tensors["kernel"], 2, axis=0)
    return tensors | {"kernel": ops.concatenate([before, now], axis=0)}


WEIGHTS = {
    "bias dropped": ("lstm", zeroed("bias")),
    "bias of the candidate dropped": ("ugrnn", zeroed("bias", "candidate")),
    "peepholes dropped": ("lstm_peephole", zeroed("peephole")),
    "kernel of the candidate unused": ("mgu2", zeroed("kernel")),
    "recurrent kernel of the candidate unused": ("slim_lstm3", zeroed("recurrent_kernel")),
    "gate recurrence dropped": ("fgr", zeroed("gate_recurrent_kernel")),
    "input and forget gate swapped": ("lstm", swapped("input", "forget")),
    "candidate and output gate swapped": ("lstm_f", swapped("candidate", "output")),
    "update and reset gate swapped": ("gru", swapped("forget", "reset")),
    "recurrent kernel transposed": ("elman", transposed),
    "recurrent bias outside the reset": ("gru", bias_outside_the_reset),
    "gates before in another order": ("fgr", gates_in_another_order),
    "window from the earliest": ("qrnn_f", window_from_the_earliest),
}

# In the step ------------------------------------------------------------------------------------


class StalePeephole(Formula):
    """The output gate looks at c_{t-1}."""

    def step(self, weights, input_terms, states, *rest, **more):
        names = next(w.blocks for w in self.form.weights if w.name == "peephole")
        p = split(names, weights["peephole"])
        seen = input_terms["output"] + p["output"] * states[1]
        none = p | {"output": ops.zeros_like(p["output"])}
        weights = weights | {"peephole": ops.concatenate([none[k] for k in names], axis=-1)}
        return super().step(weights, input_terms | {"output": seen}, states, *rest, **more)


class UnusedCandidate(Formula):
    """What the candidate sees of the input does not arrive."""

    def input_terms(self, weights, x, *rest):
        terms = super().input_terms(weights, x, *rest)
        return terms | {"candidate": ops.zeros_like(terms["candidate"])}


class OutputOfTheStepBefore(Formula):
    """The candidate and the gates read c_{t-1} where they should read h_{t-1}."""

    def step(self, weights, input_terms, states, *rest, **more):
        return super().step(weights, input_terms, [states[1], *states[1:]], *rest, **more)


STEPS = {
    "stale peephole": ("lstm_peephole", StalePeephole),
    "candidate block unused": ("ran", UnusedCandidate),
    "memory for output in the recurrence": ("s_lstm", OutputOfTheStepBefore),
}

# Each is planted, and the very checks of test_presets must raise --------------------------------


def in_form(monkeypatch, mutate):
    monkeypatch.setattr(cell_module, "resolve", lambda spec: mutate(resolve(spec)))


def in_weights(monkeypatch, mutate):
    original = kg.GatedCell.tensors.fget
    changed = property(lambda cell: mutate(cell, original(cell)))
    monkeypatch.setattr(kg.GatedCell, "tensors", changed)


def in_step(monkeypatch, mutant):
    monkeypatch.setattr(cell_module, "formula_of", mutant)


PLANTED = [
    pytest.param(plant, *row, id=f"{row[0]}: {key}")
    for plant, table in ((in_form, FORMS), (in_weights, WEIGHTS), (in_step, STEPS))
    for key, row in table.items()
]


@cache
def check_without(name):
    """It is the mistake that fails."""
    check_forward(name, "float32")


@pytest.mark.parametrize(("plant", "name", "mistake"), PLANTED)
def test_planted_mistake_fails(plant, name, mistake, monkeypatch):
    check_without(name)
    plant(monkeypatch, mistake)
    with pytest.raises(AssertionError, match="differs by"):
        check_forward(name, "float32")


def stopped(cell, tensors):
    """The recurrence is right forwards and has no gradient."""
    return tensors | {"recurrent_kernel": ops.stop_gradient(tensors["recurrent_kernel"])}


@pytest.mark.skipif(BACKEND == "torch", reason="a stopped weight is no part of torch's graph")
@pytest.mark.parametrize("name", ["elman", "lstm"])
def test_stopped_gradient_fails_backwards_only(name, monkeypatch):
    check_gradient(name)
    in_weights(monkeypatch, stopped)
    check_forward(name, "float32")
    with pytest.raises(AssertionError, match="recurrent_kernel: differs by"):
        check_gradient(name)


@pytest.mark.parametrize(
    ("name", "mistake", "dead"),
    [
        ("lstm", zeroed("kernel", "candidate"), ["candidate kernel"]),
        ("lstm_peephole", zeroed("peephole", "output"), ["output peephole"]),
        ("mgu", zeroed("bias", "input"), ["input bias"]),
    ],
)
def test_dead_weight_is_found(name, mistake, dead, monkeypatch):
    assert dead_blocks(gradient_of(case(name))[0]) == []
    in_weights(monkeypatch, mistake)
    assert dead_blocks(gradient_of(case(name))[0]) == dead
