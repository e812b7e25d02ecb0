"""Random specifications and options: built, trained a step under XLA, saved, loaded, compared.

The environment variable KERAS_GATED_RANDOM sets how many (60 unless given), in four tests.
"""

import os
import tempfile
from pathlib import Path

import hypothesis
import keras
import numpy as np
import pytest
from helpers import BACKEND, assert_close
from hypothesis import strategies as st

import keras_gated as kg

TESTS, F, B = 4, 3, 4
EXAMPLES = -(-int(os.environ.get("KERAS_GATED_RANDOM", 60)) // TESTS)
KERNELS = st.sampled_from(["dense", "diagonal", None])
ACTIVATIONS = st.sampled_from([None, "tanh", "sigmoid", "hard_sigmoid", "relu", "softsign", "gelu"])


def gates(*others: str):
    """A gate of any kind; tied to one of `others` where there are any."""
    own = st.builds(
        kg.Gate,
        kernel=st.sampled_from(["dense", None]),
        recurrent_kernel=KERNELS,
        use_bias=st.sampled_from([None, True, False]),
        peephole=st.booleans(),
        activation=ACTIVATIONS,
        bias_initializer=st.sampled_from([None, "ones", "random_normal"]),
    )
    plain = st.sampled_from([True, False, 0.0, 0.4, 1.0])
    offset = st.sampled_from([0.0, 0.5])
    tied = st.builds(kg.Tied, st.sampled_from(others), complement=st.booleans(), offset=offset)
    return st.one_of(own, plain, tied) if others else st.one_of(own, plain)


specifications = st.fixed_dictionaries(
    {
        "memory": st.sampled_from(["cell", "hidden"]),
        "forget_gate": gates(),
        "input_gate": gates("forget"),
        "output_gate": gates("forget", "input"),
        "reset_gate": st.one_of(st.just(False), gates("forget")),
        "candidate": st.builds(
            kg.Candidate,
            recurrent_kernel=KERNELS,
            activation=ACTIVATIONS,
            reset_after=st.booleans(),
        ),
        "output_activation": st.sampled_from([None, "tanh", "linear"]),
        "input_window": st.sampled_from([1, 1, 1, 2]),
        "use_bias": st.booleans(),
    }
)
options = st.fixed_dictionaries(
    {
        "units": st.integers(1, 6),
        "go_backwards": st.booleans(),
        "zero_output_for_mask": st.booleans(),
        "return_sequences": st.booleans(),
        "unroll": st.sampled_from([False, False, False, True]),
        "time_parallel": st.sampled_from([False, "auto"]),
        "dropout": st.sampled_from([0.0, 0.0, 0.3]),
        "recurrent_dropout": st.sampled_from([0.0, 0.0, 0.3]),
        "kernel_regularizer": st.sampled_from([None, "l2"]),
        "recurrent_constraint": st.sampled_from([None, "max_norm"]),
        "dtype": st.sampled_from(["float32", "float32", "mixed_bfloat16"]),
        "seed": st.integers(0, 99),
    }
)


def made(spec: dict, given: dict, time: int, masked: bool, both_ways: bool):
    """A model of a layer, or none where the specification is none."""
    try:
        layer = kg.GatedRNN(spec=kg.CellSpec(**spec), **given)
    except ValueError:
        hypothesis.reject()
    layers = [keras.layers.Masking()] if masked else []
    layers.append(keras.layers.Bidirectional(layer) if both_ways else layer)
    layers.append(keras.layers.Dense(1, dtype="float32"))
    return keras.Sequential([keras.Input((time, F)), *layers])


def trained(model, x, y, compiled: bool):
    """The weights after one step."""
    model.compile("sgd", "mse", jit_compile=compiled, run_eagerly=not compiled)
    loss = model.train_on_batch(x, y)
    assert np.isfinite(loss)
    return [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]


@pytest.mark.long
@pytest.mark.skipif(BACKEND == "torch", reason="torch compiles nothing by XLA")
@pytest.mark.parametrize("seed", range(TESTS))
def test_any_layer(seed):
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(specifications, options, st.integers(1, 5), st.booleans(), st.booleans())
    def check(spec, given, time, masked, both_ways):
        keras.backend.clear_session()
        rng = np.random.default_rng(given["seed"])
        model = made(spec, given, time, masked, both_ways)
        x = rng.standard_normal((B, time, F)).astype("float32")
        if masked:
            x[rng.random((B, time)) < 0.3] = 0.0
        y = rng.standard_normal(model.output_shape[1:]).astype("float32")[None].repeat(B, 0)
        start = [0.4 * rng.standard_normal(w.shape) for w in model.get_weights()]
        start = [
            w if "float" in str(old.dtype) else old
            for w, old in zip(start, model.get_weights(), strict=True)
        ]
        model.set_weights(start)
        twin = keras.models.clone_model(model)
        twin.set_weights(start)
        kind = "keras float32" if given["dtype"] == "float32" else given["dtype"]
        found, expected = trained(model, x, y, True), trained(twin, x, y, False)
        for name, a, b in zip(
            [w.path for w in model.trainable_weights], found, expected, strict=True
        ):
            assert_close(a, b, kind, name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            model.save(path)
            loaded = keras.models.load_model(path)
        assert_close(loaded(x), model(x), "reload", "loaded")
        assert loaded.layers[-2].get_config() == model.layers[-2].get_config()

    check()
