"""Random specifications and options of cells, from a NumPy generator."""

import contextlib

import keras_gated as kg
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.parts import Candidate, Gate, Projection, Tied


def one_of(rng, *choices):
    return choices[rng.integers(len(choices))]


def gate(rng, others=()):
    """A gate of any kind: absent, constant, tied, or with any kernels, bias, peephole."""
    kind = one_of(rng, "full", "full", "full", "none", "constant", "tied" if others else "full")
    if kind == "none":
        return False
    if kind == "constant":
        return float(one_of(rng, 0.0, 0.3, 0.9, 1.0))
    if kind == "tied":
        return Tied(
            one_of(rng, *others),
            complement=bool(rng.integers(2)),
            offset=float(one_of(rng, 0.0, 0.0, 0.7)),
        )
    return Gate(
        kernel=one_of(rng, "dense", "dense", None),
        recurrent_kernel=one_of(rng, "dense", "dense", "diagonal", None),
        use_bias=bool(rng.integers(4)),
        peephole=bool(rng.random() < 0.25),
        activation=one_of(rng, None, None, None, "hard_sigmoid", "tanh"),
    )


def specification(rng) -> CellSpec:
    """A random specification that is one."""
    while True:
        memory = one_of(rng, "cell", "hidden")
        options = {
            "memory": memory,
            "forget_gate": gate(rng),
            "input_gate": gate(rng, ("forget",)),
            "output_gate": gate(rng, ("forget", "input")),
            "reset_gate": one_of(rng, False, gate(rng, ("forget",))),
            "candidate": Candidate(
                recurrent_kernel=one_of(rng, "dense", "dense", "diagonal", None),
                activation=one_of(rng, None, "tanh", "softsign", "gelu"),
                reset_after=bool(rng.integers(2)),
            ),
            "output_activation": one_of(rng, None, "tanh", "linear"),
            "input_window": one_of(rng, 1, 1, 1, 2, 3),
            "input_projection": one_of(rng, None, None, None, Projection(activation="tanh")),
        }
        try:
            return checked(CellSpec(**options | rare_part(rng)))
        except ValueError:
            continue


def rare_part(rng) -> dict:
    """Arguments of a part that few cells have, or none."""
    kernel = one_of(rng, "dense", "diagonal", None)
    parts = {
        "normalizer": {
            "memory": "cell",
            "input_gate": Gate(recurrent_kernel=kernel, activation="exp"),
            "forget_gate": one_of(rng, Gate(), Gate(activation="exp"), Gate(decay=2.0), 0.9),
            "normalizer": True,
        },
        "scale": {
            "forget_gate": one_of(rng, Gate(recurrent_kernel=kernel, decay=8.0), Gate(), 0.6),
            "input_scale": "root",
        },
        "skip": {"memory": "cell", "input_skip": True},
        "peephole": {
            "memory": "cell",
            "output_gate": Gate(recurrent_kernel=kernel, peephole="previous"),
        },
        "shared": {
            "forget_gate": Gate(shares="candidate"),
            "input_gate": Tied("forget", complement=True, trained=True),
            "reset_gate": False,
        },
    }
    return parts[one_of(rng, *parts)] if rng.random() < 0.4 else {}


def checked(spec: CellSpec) -> CellSpec:
    """The specification, or the ValueError of a layer that refuses it."""
    kg.GatedRNN(2, spec)
    return spec


def accepted_options(rng, options: dict) -> dict:
    """Options of the cell that it does not refuse, at random."""
    drawn = {
        "zoneout": one_of(rng, 0.0, 0.2),
        "state_clip": one_of(rng, None, 0.5),
        "projection_units": one_of(rng, None, 2),
        one_of(rng, "layer_norm", "batch_norm"): True,
    }
    accepted: dict = {}
    for name, value in drawn.items():
        if rng.random() < 0.2:
            with contextlib.suppress(ValueError):
                kg.GatedRNN(**options, **accepted, **{name: value})
                accepted[name] = value
    return accepted
