"""Bad specifications get an error that says argument, expected, received and what to do."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import B, F, T, U, raises

G, Tied, Spec = kg.Gate, kg.Tied, kg.CellSpec
FREE = kg.Candidate(recurrent_kernel=None)
X = np.zeros((B, T, F), "float32")


# (what is given, the text of the error)
PARTS = {
    "kernel": (
        lambda: G(kernel="full"),
        "Argument `kernel` must be 'dense' (every unit sees every entry), 'diagonal' (each unit "
        "sees its own entry, weighted), 'identity' (each sees its own entry as it is) or None (no "
        "term). Received: kernel='full'.",
    ),
    "recurrent kernel": (
        lambda: G(recurrent_kernel="diag"),
        "Argument `recurrent_kernel` must be 'dense'...or None (no term). Received: "
        "recurrent_kernel='diag'.",
    ),
    "kernel of the candidate": (
        lambda: kg.Candidate(kernel=True),
        "Argument `kernel` must be 'dense'...Received: kernel=True.",
    ),
    "tie to the output gate": (
        lambda: Tied("output"),
        "Argument `to` must be 'input', 'forget' or 'reset': the output gate is computed after the "
        "memory, so no gate can follow it. Received: to='output'. Tie the output gate to the other",
    ),
    "tie to the candidate": (lambda: Tied("candidate"), "Received: to='candidate'."),
    "tie to nothing": (lambda: Tied(None), "Received: to=None."),
    "offset that is no number": (
        lambda: Tied("forget", offset="1"),
        "Argument `offset` must be a finite number, added to the pre-activation. Received: "
        "offset='1'.",
    ),
    "offset that is not finite": (
        lambda: Tied("forget", offset=float("inf")),
        "Argument `offset` must be a finite number...Received: offset=inf.",
    ),
    "activation of an input that is not seen": (
        lambda: G(kernel=None, input_activation="tanh"),
        "Argument `input_activation` needs a kernel, through which x_t is seen. Received: "
        "input_activation='tanh' with kernel=None.",
    ),
}
SPECS = {
    "memory": (
        {"memory": "both"},
        "Argument `memory` must be 'cell' (two states, h and c) or 'hidden' (one state, h). "
        "Received: memory='both'.",
    ),
    "output gate without a memory cell": (
        {"memory": "hidden", "output_gate": G()},
        "Argument `output_gate` must be absent (False or 1.0) with memory='hidden'...Received: "
        "output_gate=Gate(...Use memory='cell' for an output gate.",
    ),
    "output activation without a memory cell": (
        {"memory": "hidden", "output_activation": "tanh"},
        "Argument `output_activation` must be None or 'linear' with memory='hidden'...Received: "
        "output_activation='tanh'. Use memory='cell' for an output activation.",
    ),
    "peephole without a memory cell": (
        {"memory": "hidden", "forget_gate": G(peephole=True)},
        "Argument `peephole` of `forget_gate` needs a memory cell to look at. Received: "
        "peephole=True with memory='hidden'. Use memory='cell', or peephole=False.",
    ),
    "reset without a recurrent candidate": (
        {"reset_gate": G(), "candidate": FREE},
        "Argument `reset_gate` must be absent (False or 1.0) where the candidate does not see "
        "h_(t-1)...Received: reset_gate=Gate(...Drop the reset gate, or give the candidate a",
    ),
    "tied reset without a recurrent candidate": (
        {"reset_gate": Tied("input"), "candidate": FREE},
        "Argument `reset_gate` must be absent...Received: reset_gate=Tied(",
    ),
    "constant reset without a recurrent candidate": (
        {"reset_gate": 0.5, "candidate": FREE},
        "Argument `reset_gate` must be absent...Received: reset_gate=0.5",
    ),
    "candidate that is a name": (
        {"candidate": "tanh"},
        "Argument `candidate` must be a keras_gated.Candidate. Received: candidate='tanh'. For "
        "another activation give Candidate(activation=...).",
        TypeError,
    ),
    "projection that is a flag": (
        {"input_projection": True},
        "Argument `input_projection` must be a keras_gated.Projection or None. Received: "
        "input_projection=True. Give Projection().",
        TypeError,
    ),
    "peephole of the reset gate": (
        {"reset_gate": G(peephole=True)},
        "Argument `peephole` of `reset_gate` must be False: the formula has peepholes into the "
        "input, forget and output gates. Received: peephole=True.",
    ),
    "circle of two": (
        {"input_gate": Tied("forget"), "forget_gate": Tied("input", complement=True)},
        "Argument `input_gate` must be tied to a gate that has weights or is constant. Received a "
        "circle: input -> forget -> input. Give one of these gates weights of its own, with Gate()",
    ),
    "circle of one": (
        {"forget_gate": Tied("forget")},
        "Argument `forget_gate`...Received a circle: forget -> forget.",
    ),
    "circle of three": (
        {"input_gate": Tied("forget"), "forget_gate": Tied("reset"), "reset_gate": Tied("input")},
        "Received a circle: input -> forget -> reset -> input.",
    ),
    "circle that another gate leads to": (
        {"output_gate": Tied("input"), "input_gate": Tied("forget"), "forget_gate": Tied("input")},
        "Received a circle:",
    ),
    "offset to a constant": (
        {"forget_gate": 0.9, "input_gate": Tied("forget", offset=-1.0)},
        "Argument `offset` of `input_gate` must be 0 where the tie ends at a constant, which has "
        "no pre-activation. Received: offset=-1.0. Give `input_gate` the number that you want.",
    ),
    "gate without a term": (
        {"input_gate": G(None, None, use_bias=False)},
        "Argument `input_gate` must have a term: a kernel, a recurrent kernel, a bias or a "
        "peephole. Received: input_gate=Gate(...with none. Give a number for a constant gate.",
    ),
    "gate without a term by the cell's use_bias": (
        {"forget_gate": G(None, None), "use_bias": False},
        "Argument `forget_gate` must have a term",
    ),
    "candidate without a term": (
        {"candidate": kg.Candidate(None, None, use_bias=False)},
        "Argument `candidate` must have a term...Received: candidate=Candidate(",
    ),
    "candidate without a term beside gate recurrence": (
        {"candidate": kg.Candidate(None, None, use_bias=False), "gate_recurrence": True},
        "Argument `candidate` must have a term...Received: candidate=Candidate(",
    ),
    "gate recurrence without a memory cell": (
        {"memory": "hidden", "gate_recurrence": True},
        "Argument `gate_recurrence` needs memory='cell' and input, forget and output gates with "
        "weights of their own. Received: gate_recurrence=True with CellSpec(",
    ),
    "gate recurrence with a tied gate": (
        {"input_gate": Tied("forget"), "gate_recurrence": True},
        "Argument `gate_recurrence` needs memory='cell'",
    ),
    "no window": (
        {"input_window": 0},
        "Argument `input_window` must be an integer >= 1, the number of time steps that the cell "
        "sees at once. Received: input_window=0.",
    ),
    "window of no integer": ({"input_window": 2.0}, "Received: input_window=2.0."),
    "no dynamics": (
        {"memory": "hidden", "input_gate": G(recurrent_kernel=None), "candidate": FREE}
        | {"forget_gate": 0.0},
        "Argument `forget_gate` must not be 0 where nothing else reads the state: the cell would "
        "have no memory. Received: forget_gate=0.0 and no recurrent kernel anywhere. Give the "
        "candidate or a gate a recurrent kernel, or keep a forget gate.",
    ),
    "no dynamics but an output gate's look at the new memory": (
        {"input_gate": 1.0, "forget_gate": 0.0, "candidate": FREE}
        | {"output_gate": G(recurrent_kernel=None, peephole=True)},
        "Argument `forget_gate` must not be 0 where nothing else reads the state",
    ),
    "no dynamics by a reset of zero": (
        {"memory": "hidden", "input_gate": G(recurrent_kernel=None), "reset_gate": 0.0}
        | {"forget_gate": 0.0},
        "Argument `forget_gate` must not be 0 where nothing else reads the state",
    ),
    "candidate without a term by a reset of zero": (
        {"candidate": kg.Candidate(kernel=None, use_bias=False), "reset_gate": 0.0},
        "Argument `candidate` must have a term",
    ),
    "config of a candidate as a gate": (
        {"input_gate": kg.Candidate().to_config()},
        "Argument `input_gate` must be True (present), False (absent), a finite number",
        TypeError,
    ),
    "dictionary as a gate": (
        {"forget_gate": {"kernel": "dense"}},
        "Argument `forget_gate` must be True (present)...Received: forget_gate={'kernel': 'dense'}",
        TypeError,
    ),
    **{
        f"{gate!r} as a gate": (
            {"output_gate": gate},
            "Argument `output_gate` must be True (present), False (absent), a finite number "
            "(constant), a keras_gated.Gate or a keras_gated.Tied. Received: output_gate="
            f"{gate!r}.",
            TypeError,
        )
        for gate in ("sigmoid", [1.0], float("nan"), float("inf"), 1j)
    },
}


@pytest.mark.parametrize("key", PARTS)
def test_part(key):
    raises(*PARTS[key])


@pytest.mark.parametrize("key", SPECS)
def test_specification(key):
    fields, *rest = SPECS[key]
    raises(lambda: Spec(**fields), *rest)


# What must not be refused -----------------------------------------------------------------------

MINE = G(recurrent_kernel=None, peephole=True)
ALLOWED = {
    "tie of a tie": {"input_gate": Tied("forget"), "output_gate": Tied("input", complement=True)},
    "tie to a constant": {"forget_gate": 0.9, "input_gate": Tied("forget", complement=True)},
    "one gate twice, which alone reads the memory": {"forget_gate": 0.0, "candidate": FREE}
    | {"input_gate": MINE, "output_gate": MINE},
    "reset of zero before the product": {"reset_gate": 0.0},
    "reset of zero after the product": {
        "reset_gate": 0.0,
        "candidate": kg.Candidate(reset_after=True),
    },
    "nothing shown": {"output_gate": 0.0},
    "nothing written": {"input_gate": 0.0},
    "integers": {"forget_gate": 1, "input_gate": 0.5},
    "gates that are biases": {"input_gate": G(None, None), "output_gate": G(None, None)},
    "candidate that is a bias": {"candidate": kg.Candidate(None, None)},
}


@pytest.mark.parametrize("key", ALLOWED)
def test_allowed(key):
    """What looks odd but has a meaning runs, and gives numbers."""
    outputs = kg.GatedRNN(U, Spec(**ALLOWED[key]))(X + 1.0)
    assert np.isfinite(keras.ops.convert_to_numpy(outputs)).all()
    assert tuple(outputs.shape) == (B, U)
