"""Random specifications, options and shapes through onnxruntime: none may differ.

The environment variable KERAS_GATED_RANDOM sets how many (2 unless given); each seed is a test
of two specifications.
"""

import os

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import find_native_operator
from tests.onnx.helpers import error_bound, on_tensorflow, randomized, run
from tests.random_cells import accepted_options, one_of, specification

pytestmark = on_tensorflow
EACH, F, MOST_UNITS = 2, 3, 8
SEEDS = -(-int(os.environ.get("KERAS_GATED_RANDOM", 2)) // EACH)
STEPWISE = {"zoneout", "state_clip", "layer_norm", "projection_units"}  # not always native


class Several(keras.Model):
    """Calls layers over one input, each with or without the mask and given initial states."""

    def __init__(self, layers, calls, dtype):
        super().__init__(dtype=dtype)
        self.held, self.calls = layers, calls
        for layer in layers:
            layer.build((None, None, F))
        self.built = True

    def call(self, inputs):
        x, mask, state = inputs
        outputs = []
        for layer, (masked, initial) in zip(self.held, self.calls, strict=True):
            both = isinstance(layer, keras.layers.Bidirectional)
            runs = [layer.forward_layer, layer.backward_layer] if both else [layer]
            sizes = [size for run in runs for size in run.state_size]
            states = [state[:, :size] / (k + 1) for k, size in enumerate(sizes)]
            outputs += layer(
                x, mask=mask if masked else None, initial_state=states if initial else None
            )
        return outputs


def layer_of(options, both, dtype):
    """A GatedRNN, or a Bidirectional of two."""
    layer = kg.GatedRNN(**options, dtype=dtype)
    return keras.layers.Bidirectional(layer, name=f"both_{layer.name}") if both else layer


SIGNATURE = [
    keras.InputSpec(shape=(None, None, F), dtype="float32"),
    keras.InputSpec(shape=(None, None), dtype="bool"),
    keras.InputSpec(shape=(None, MOST_UNITS + 2 * F), dtype="float32"),
]


def options_of(rng, name) -> dict:
    units, spec = int(rng.integers(1, MOST_UNITS + 1)), specification(rng)
    form = resolve(spec)
    return {
        "units": form.window * F if form.square else units,  # there unit j sees input j
        "spec": spec,
        "go_backwards": bool(rng.integers(2)),
        "zero_output_for_mask": bool(rng.integers(2)),
        "return_sequences": bool(rng.integers(3)),
        "return_state": True,
        "name": name,
    }


def lowerings_of(rng, options, both) -> dict:
    """A form for a layer, or for each of the two in a Bidirectional."""
    possible = ["auto"] * 4 + ["scan"] * 2 + ["loop"]
    if find_native_operator(resolve(options["spec"])).operator and STEPWISE.isdisjoint(options):
        possible += ["native"] * 3
    ways = ("forward_", "backward_") if both else ("",)
    return {way + options["name"]: one_of(rng, *possible) for way in ways}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(SEEDS))
def test_none_differs(seed, tmp_path):
    rng = np.random.default_rng(seed)
    options = [options_of(rng, f"cell_{k}") for k in range(EACH)]
    options = [one | accepted_options(rng, one) for one in options]
    both = [rng.random() < 0.3 for _ in options]
    for one, wrapped in zip(options, both, strict=True):
        one["go_backwards"] &= not wrapped
    calls = [tuple(rng.random(2) < (0.7, 0.5)) for _ in options]
    pairs = list(zip(options, both, strict=True))
    model, finer = (
        randomized(Several([layer_of(*one, dtype) for one in pairs], calls, dtype), scale=0.3)
        for dtype in ("float32", "float64")
    )
    path = str(tmp_path / "model.onnx")
    lowering: dict = {}
    for one in pairs:
        lowering |= lowerings_of(rng, *one)
    kg.export_onnx(
        model,
        path,
        input_signature=SIGNATURE,
        verify=False,
        lowering=lowering,
        opset=int(rng.integers(13, 19)),
        expected_batch=int(one_of(rng, 1, 64)),
    )
    for _ in range(2):
        batch, time = int(rng.integers(1, 6)), int(rng.integers(1, 9))
        x = rng.standard_normal((batch, time, F))
        mask = rng.random((batch, time)) < one_of(rng, 0.4, 0.8, 1.0)
        state = rng.standard_normal((batch, MOST_UNITS + 2 * F))
        y32, y64 = (
            keras.tree.flatten(m([x.astype(dtype), mask, state.astype(dtype)], training=False))
            for m, dtype in ((model, "float32"), (finer, "float64"))
        )
        found = run(path, x.astype("float32"), mask, state.astype("float32"))
        for which, (y, a, b) in enumerate(zip(found, y32, y64, strict=True)):
            wrong = ~(np.abs(y - np.asarray(a)) <= error_bound(a, b))
            assert not wrong.any(), f"output {which} of {options}, {both}, {calls}, {lowering}"
