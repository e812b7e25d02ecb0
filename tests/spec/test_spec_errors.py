"""Bad specifications get an error that says argument, expected, received and what to do."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import B, F, T, U, raises

G, Tied, Spec = kg.Gate, kg.Tied, kg.CellSpec
FREE = kg.Candidate(recurrent_kernel=None)
X = np.zeros((B, T, F), "float32")


# (the arguments, the text of the error)
PARTS = {
    "kernel": (
        lambda: G(kernel="full"),
        "`kernel`...kernel='full'",
    ),
    "recurrent kernel": (
        lambda: G(recurrent_kernel="diag"),
        "`recurrent_kernel`...recurrent_kernel='diag'",
    ),
    "kernel of the candidate": (
        lambda: kg.Candidate(kernel=True),
        "`kernel`...kernel=True",
    ),
    "tie to the output gate": (
        lambda: Tied("output"),
        "`to`...to='output'",
    ),
    "tie to the candidate": (lambda: Tied("candidate"), "Received: to='candidate'."),
    "tie to nothing": (lambda: Tied(None), "Received: to=None."),
    "offset that is no number": (
        lambda: Tied("forget", offset="1"),
        "`offset`...offset='1'",
    ),
    "offset that is not finite": (
        lambda: Tied("forget", offset=float("inf")),
        "`offset`...offset=inf",
    ),
    "activation of an input that is not seen": (
        lambda: G(kernel=None, input_activation="tanh"),
        "`input_activation`...input_activation='tanh' with kernel=None",
    ),
}
SPECS = {
    "memory": (
        {"memory": "both"},
        "`memory`...memory='both'",
    ),
    "output gate without a memory cell": (
        {"memory": "hidden", "output_gate": G()},
        "`output_gate`...output_gate=Gate(",
    ),
    "output activation without a memory cell": (
        {"memory": "hidden", "output_activation": "tanh"},
        "`output_activation`...output_activation='tanh'",
    ),
    "peephole without a memory cell": (
        {"memory": "hidden", "forget_gate": G(peephole=True)},
        "`peephole`...`forget_gate`...peephole=True with memory='hidden'",
    ),
    "reset without a recurrent candidate": (
        {"reset_gate": G(), "candidate": FREE},
        "`reset_gate`...reset_gate=Gate(",
    ),
    "tied reset without a recurrent candidate": (
        {"reset_gate": Tied("input"), "candidate": FREE},
        "`reset_gate`...reset_gate=Tied(",
    ),
    "constant reset without a recurrent candidate": (
        {"reset_gate": 0.5, "candidate": FREE},
        "`reset_gate`...reset_gate=0.5",
    ),
    "candidate that is a name": (
        {"candidate": "tanh"},
        "`candidate`...candidate='tanh'",
        TypeError,
    ),
    "projection that is a flag": (
        {"input_projection": True},
        "`input_projection`...input_projection=True",
        TypeError,
    ),
    "peephole of the reset gate": (
        {"reset_gate": G(peephole=True)},
        "`peephole`...`reset_gate`...peephole=True",
    ),
    "circle of two": (
        {"input_gate": Tied("forget"), "forget_gate": Tied("input", complement=True)},
        "`input_gate`...input -> forget -> input",
    ),
    "circle of one": (
        {"forget_gate": Tied("forget")},
        "`forget_gate`...forget -> forget",
    ),
    "circle of three": (
        {"input_gate": Tied("forget"), "forget_gate": Tied("reset"), "reset_gate": Tied("input")},
        "input -> forget -> reset -> input",
    ),
    "circle that another gate leads to": (
        {"output_gate": Tied("input"), "input_gate": Tied("forget"), "forget_gate": Tied("input")},
        "input -> forget -> input",
    ),
    "offset to a constant": (
        {"forget_gate": 0.9, "input_gate": Tied("forget", offset=-1.0)},
        "`offset`...`input_gate`...offset=-1.0",
    ),
    "gate without a term": (
        {"input_gate": G(None, None, use_bias=False)},
        "`input_gate`...a kernel, a recurrent kernel, a bias or a peephole...input_gate=Gate(",
    ),
    "gate without a term by the cell's use_bias": (
        {"forget_gate": G(None, None), "use_bias": False},
        "`forget_gate`...a kernel, a recurrent kernel, a bias or a peephole",
    ),
    "candidate without a term": (
        {"candidate": kg.Candidate(None, None, use_bias=False)},
        "`candidate`...candidate=Candidate(",
    ),
    "candidate without a term beside gate recurrence": (
        {"candidate": kg.Candidate(None, None, use_bias=False), "gate_recurrence": True},
        "`candidate`...candidate=Candidate(",
    ),
    "gate recurrence without a memory cell": (
        {"memory": "hidden", "gate_recurrence": True},
        "`gate_recurrence`...gate_recurrence=True with CellSpec(",
    ),
    "gate recurrence with a tied gate": (
        {"input_gate": Tied("forget"), "gate_recurrence": True},
        "`gate_recurrence`...gate_recurrence=True with CellSpec(",
    ),
    "no window": (
        {"input_window": 0},
        "`input_window`...input_window=0",
    ),
    "window of no integer": ({"input_window": 2.0}, "Received: input_window=2.0."),
    "no dynamics": (
        {"memory": "hidden", "input_gate": G(recurrent_kernel=None), "candidate": FREE}
        | {"forget_gate": 0.0},
        "`forget_gate`...forget_gate=0.0 and no recurrent kernel",
    ),
    "no dynamics but an output gate's look at the new memory": (
        {"input_gate": 1.0, "forget_gate": 0.0, "candidate": FREE}
        | {"output_gate": G(recurrent_kernel=None, peephole=True)},
        "`forget_gate`...forget_gate=0.0 and no recurrent kernel",
    ),
    "no dynamics by a reset of zero": (
        {"memory": "hidden", "input_gate": G(recurrent_kernel=None), "reset_gate": 0.0}
        | {"forget_gate": 0.0},
        "`forget_gate`...forget_gate=0.0 and no recurrent kernel",
    ),
    "candidate without a term by a reset of zero": (
        {"candidate": kg.Candidate(kernel=None, use_bias=False), "reset_gate": 0.0},
        "`candidate`...candidate=Candidate(",
    ),
    "config of a candidate as a gate": (
        {"input_gate": kg.Candidate().to_config()},
        "`input_gate`...input_gate={",
        TypeError,
    ),
    "dictionary as a gate": (
        {"forget_gate": {"kernel": "dense"}},
        "`forget_gate`...forget_gate={'kernel': 'dense'}",
        TypeError,
    ),
    **{
        f"{gate!r} as a gate": (
            {"output_gate": gate},
            f"`output_gate`...output_gate={gate!r}",
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
