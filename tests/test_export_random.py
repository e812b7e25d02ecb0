"""Random specifications, options and shapes through onnxruntime: none may differ.

The environment variable KERAS_GATED_RANDOM sets how many (60 unless given); each seed is a test of
six specifications.
"""

import os

import keras
import numpy as np
import pytest
from test_export import Masked, error_bound, randomized, run

import keras_gated as kg
from keras_gated.parts import Candidate, Gate, Tied
from keras_gated.spec import CellSpec

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export runs on Keras's TensorFlow backend"
)
EACH, F = 6, 3
SEEDS = -(-int(os.environ.get("KERAS_GATED_RANDOM", 60)) // EACH)
BOUNDED = ("tanh", "sigmoid", "hard_sigmoid", "softsign")


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
        }
        try:
            return checked(CellSpec(**options))
        except ValueError:
            continue


def checked(spec: CellSpec) -> CellSpec:
    """The specification, or the ValueError of a layer that refuses it."""
    kg.GatedRNN(2, spec)
    return spec


def model_of(layers, dtype):
    x = keras.Input((None, F), dtype=dtype, name="x")
    mask = keras.Input((None,), dtype="bool", name="mask")
    return randomized(keras.Model([x, mask], Masked(layers, dtype=dtype)([x, mask])), scale=0.3)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_none_differs(seed, tmp_path):
    rng = np.random.default_rng(seed)
    options = [
        {
            "units": int(rng.integers(1, 9)),
            "spec": specification(rng),
            "go_backwards": bool(rng.integers(2)),
            "zero_output_for_mask": bool(rng.integers(2)),
            "return_sequences": bool(rng.integers(3)),
            "return_state": True,
        }
        for _ in range(EACH)
    ]
    model, finer = (
        model_of([kg.GatedRNN(**one, dtype=dtype) for one in options], dtype)
        for dtype in ("float32", "float64")
    )
    path = str(tmp_path / "model.onnx")
    kg.export_onnx(
        model,
        path,
        verify=False,
        lowering=one_of(rng, "auto", "scan"),
        opset=int(rng.integers(13, 19)),
        expected_batch=int(one_of(rng, 1, 64)),
    )
    for _ in range(2):
        batch, time = int(rng.integers(1, 6)), int(rng.integers(1, 9))
        x = rng.standard_normal((batch, time, F))
        mask = rng.random((batch, time)) < one_of(rng, 0.4, 0.8, 1.0)
        y32, y64 = (
            keras.tree.flatten(m([x.astype(dtype), mask], training=False))
            for m, dtype in ((model, "float32"), (finer, "float64"))
        )
        found = run(path, x.astype("float32"), mask)
        for which, (y, a, b) in enumerate(zip(found, y32, y64, strict=True)):
            wrong = np.abs(y - np.asarray(a)) > error_bound(a, b)
            assert not wrong.any(), f"output {which} of {options}"
