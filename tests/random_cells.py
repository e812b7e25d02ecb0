"""Random specifications and options of cells, from a NumPy generator."""

import contextlib
import math
from dataclasses import replace

import keras_gated as kg
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.parts import Candidate, Gate, Projection, Tied


def one_of(rng, *choices):
    return choices[rng.integers(len(choices))]


def blocks(rng, size: int) -> kg.Blocks:
    """Kernels of blocks for entries and units of which `size` is a common divisor."""
    return kg.Blocks(one_of(rng, *(n for n in range(1, size + 1) if size % n == 0)))


def gate(rng, others=(), units=1, inputs=1):
    """A gate of any kind: absent, constant, tied, or with any kernels, bias, peephole, floor."""
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
        kernel=one_of(rng, "dense", "dense", "dense", None, blocks(rng, math.gcd(units, inputs))),
        recurrent_kernel=one_of(rng, "dense", "dense", "diagonal", None, blocks(rng, units)),
        use_bias=bool(rng.integers(4)),
        peephole=bool(rng.random() < 0.25),
        activation=one_of(rng, None, None, None, "hard_sigmoid", "tanh"),
        floor=one_of(rng, None, None, None, None, 0.0, 0.4),
    )


def specification(rng, units: int = 1, inputs: int = 1) -> CellSpec:
    """A random specification that is one, for layers with multiples of so many units and inputs."""
    sizes = {"units": units, "inputs": inputs}
    while True:
        memory = one_of(rng, "cell", "hidden")
        options = {
            "memory": memory,
            "forget_gate": gate(rng, **sizes),
            "input_gate": gate(rng, ("forget",), **sizes),
            "output_gate": gate(rng, ("forget", "input"), **sizes),
            "reset_gate": one_of(rng, False, gate(rng, ("forget",), **sizes)),
            "candidate": Candidate(
                recurrent_kernel=one_of(
                    rng, "dense", "dense", "diagonal", None, blocks(rng, units)
                ),
                activation=one_of(rng, None, "tanh", "softsign", "gelu", "positive_linear"),
                **one_of(
                    rng, {"reset_after": True}, {"reset_after": True}, {"reset_all": True}, {}
                ),
            ),
            "output_activation": one_of(rng, None, "tanh", "linear"),
            "input_window": one_of(rng, 1, 1, 1, 2, 3),
            "input_projection": one_of(rng, None, None, None, Projection(activation="tanh")),
        }
        try:
            spec = checked(CellSpec(**options | rare_part(rng)), units)
        except ValueError:
            continue
        if rng.random() < 0.5:
            with contextlib.suppress(ValueError):
                spec = replace(spec, normalize_gates=True)
        return spec


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


def checked(spec: CellSpec, units: int) -> CellSpec:
    """The specification, or the ValueError of a layer that refuses it."""
    kg.GatedRNN(units, spec)
    return spec


def accepted_options(rng, options: dict) -> dict:
    """Options of the cell that it does not refuse, at random."""
    drawn = {
        "zoneout": one_of(rng, 0.0, 0.2),
        "state_clip": one_of(rng, None, 0.5),
        "projection_units": one_of(rng, None, 2, options["units"]),
        one_of(rng, "layer_norm", "batch_norm"): True,
    }
    accepted: dict = {}
    for name, value in drawn.items():
        if rng.random() < 0.2:
            with contextlib.suppress(ValueError):
                kg.GatedRNN(**options, **accepted, **{name: value})
                accepted[name] = value
    return accepted
