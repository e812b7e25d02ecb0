"""Random specifications and options: built, trained a step under XLA, saved, loaded, compared.

The environment variable KERAS_GATED_RANDOM sets how many (1 unless given: XLA takes ten seconds
for each), KERAS_GATED_FIRST which is the first. Up to six are layers of one model, which is
compiled and saved once. TensorFlow keeps what it compiled, 0.3 GB for six, until the process ends:
more than a few hundred are run in parts (CONTRIBUTING.md has the command).
"""

import json
import os

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

import keras_gated as kg
from tests.helpers import BACKEND, assert_close

F, B = 3, 4
CASES = int(os.environ.get("KERAS_GATED_RANDOM", 1))
EACH = min(CASES, 6)
FIRST = int(os.environ.get("KERAS_GATED_FIRST", 0)) // EACH
SEEDS = range(FIRST, FIRST + -(-CASES // EACH))
KERNELS = st.sampled_from(["dense", "diagonal", None])
ACTIVATIONS = st.sampled_from([None, "tanh", "sigmoid", "hard_sigmoid", "relu", "softsign", "gelu"])


def gates(*others: str, peephole=True):
    """A gate of any kind; tied to one of `others` where there are any."""
    own = st.builds(
        kg.Gate,
        kernel=st.sampled_from(["dense", None]),
        recurrent_kernel=KERNELS,
        use_bias=st.sampled_from([None, True, False]),
        peephole=st.booleans() if peephole else st.just(False),
        activation=ACTIVATIONS,
        bias_initializer=st.sampled_from([None, "ones", "random_normal"]),
    )
    plain = st.sampled_from([True, False, 0.0, 0.4, 1.0])
    offset = st.sampled_from([0.0, 0.5])
    tied = st.builds(kg.Tied, st.sampled_from(others), complement=st.booleans(), offset=offset)
    return st.one_of(own, plain, tied) if others else st.one_of(own, plain)


@st.composite
def specifications(draw) -> dict:
    """Arguments of a CellSpec: most of them make one."""
    hidden = draw(st.booleans())  # then there is no memory for an output gate to hide
    candidate = st.builds(
        kg.Candidate, recurrent_kernel=KERNELS, activation=ACTIVATIONS, reset_after=st.booleans()
    )
    drawn = draw(candidate)
    resets = bool(drawn.recurrent_kernel) and draw(st.booleans())
    return {
        "memory": "hidden" if hidden else "cell",
        "forget_gate": draw(gates(peephole=not hidden)),
        "input_gate": draw(gates("forget", peephole=not hidden)),
        "output_gate": False if hidden else draw(gates("forget", "input")),
        "reset_gate": draw(gates("forget", peephole=False)) if resets else False,
        "candidate": drawn,
        "output_activation": draw(st.sampled_from([None, "linear", *([] if hidden else ["tanh"])])),
        "input_window": draw(st.sampled_from([1, 1, 1, 2])),
        "use_bias": draw(st.booleans()),
    }


options = {
    "units": st.integers(1, 6),
    "zero_output_for_mask": st.booleans(),
    "return_sequences": st.booleans(),
    "unroll": st.sampled_from([*[False] * 5, True]),
    "time_parallel": st.sampled_from([False, "auto"]),
    "dropout": st.sampled_from([0.0, 0.0, 0.3]),
    "recurrent_dropout": st.sampled_from([0.0, 0.0, 0.3]),
    "candidate_dropout": st.sampled_from([0.0, 0.0, 0.3]),
    "zoneout": st.sampled_from([0.0, 0.0, 0.3]),
    "weight_noise": st.sampled_from([0.0, 0.0, 0.1]),
    "state_clip": st.sampled_from([None, None, 0.5]),
    "layer_norm": st.sampled_from([False] * 3 + [True]),
    "batch_norm": st.sampled_from([False] * 3 + [True]),
    "projection_units": st.sampled_from([None] * 4 + [2]),
    "kernel_regularizer": st.sampled_from([None, "l2"]),
    "recurrent_constraint": st.sampled_from([None, keras.constraints.MaxNorm(0.5)]),
    "dtype": st.sampled_from(["float32", "float32", "mixed_bfloat16"]),
    "seed": st.integers(0, 99),
}


def arguments_of_a_layer(spec: dict, given: dict) -> dict | None:
    """What GatedRNN may take, or None where the specification is none.

    A norm over two or three units divides by a difference that may be little but rounding: there
    float32 has no five digits, eager or compiled (float64 has thirteen).
    """
    units = given["units"] + 4 * given["layer_norm"]
    try:
        return {"spec": kg.CellSpec(**spec), **given, "units": units}
    except ValueError:
        return None


def is_a_layer(case: dict) -> bool:
    """Whether the options do not exclude each other."""
    try:
        kg.GatedRNN(**case["layer"])
    except ValueError:
        return False
    return True


layers = st.builds(arguments_of_a_layer, specifications(), st.fixed_dictionaries(options))
cases = st.fixed_dictionaries(
    {
        "layer": layers.filter(bool),
        "time": st.integers(1, 5),
        "masked": st.booleans(),
        "direction": st.sampled_from(["forwards", "forwards", "backwards", "both"]),
    }
)


def model_of(drawn: list[dict]) -> keras.Model:
    """All layers side by side, each with inputs and targets of its own."""
    inputs, outputs = [], []
    for at, case in enumerate(drawn):
        time = min(case["time"], 2) if case["layer"]["unroll"] else case["time"]  # it multiplies
        inputs.append(x := keras.Input((time, F)))
        layer = kg.GatedRNN(**case["layer"], go_backwards=case["direction"] == "backwards")
        layer = keras.layers.Bidirectional(layer) if case["direction"] == "both" else layer
        layer.name = f"layer_{at}"
        x = layer(keras.layers.Masking()(x) if case["masked"] else x)
        outputs.append(keras.layers.Dense(1, dtype="float32", name=f"dense_{at}")(x))
    return keras.Model(inputs, outputs)


def numbers(model, drawn: list[dict], rng) -> tuple[list, list]:
    """Inputs and targets."""
    inputs = [rng.standard_normal((B, *x.shape[1:])).astype("float32") for x in model.inputs]
    for x, case in zip(inputs, drawn, strict=True):
        if case["masked"]:
            x[rng.random(x.shape[:2]) < 0.3] = 0.0
    return inputs, [rng.standard_normal((B, *y.shape[1:])).astype("float32") for y in model.outputs]


def randomize(model, rng) -> None:
    for weight in model.trainable_weights:
        weight.assign(0.4 * rng.standard_normal(weight.shape))


@pytest.fixture
def drawn_alike(monkeypatch):
    """All drawn by XLA in eager steps too: TensorFlow has other numbers for the same seed."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        for name in ("stateless_uniform", "stateless_normal"):
            draw = tf.function(getattr(tf.random, name), jit_compile=True)
            monkeypatch.setattr(tf.random, name, draw)


def train(model, x, y, compiled: bool) -> None:
    """One step."""
    sgd, losses = keras.optimizers.SGD(0.1), ["mse"] * len(y)
    model.compile(sgd, losses, jit_compile=compiled, run_eagerly=not compiled)
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(x, y)).all()
    for weight, first in zip(model.weights, before, strict=True):
        if weight.constraint and np.array_equal(weight, first):
            # Behind an output gate that is 0, an eager step finds no gradient and Keras constrains
            # nothing; a graph's gradient is zeros.
            weight.assign(weight.constraint(weight))


def as_text(config: dict) -> str:
    """A config as a file holds it: Bidirectional has tuples that come back as lists."""
    return json.dumps(config, sort_keys=True)


@pytest.mark.long
@pytest.mark.skipif(BACKEND == "torch", reason="torch compiles nothing by XLA")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("drawn_alike")
@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # behind an output gate that is 0
def test_any_layer(seed, tmp_path):
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=1,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],  # to make a failure smaller would take hours
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.lists(cases, min_size=3 * EACH, max_size=3 * EACH), st.integers(0, 99))
    def check(drawn, number):
        hypothesis.assume(drawn[0] != drawn[1])  # not the simplest of all, which always comes first
        drawn = [case for case in drawn if is_a_layer(case)][:EACH]
        hypothesis.assume(len(drawn) == EACH)
        keras.backend.clear_session()
        rng = np.random.default_rng(number)
        model = model_of(drawn)
        randomize(model, rng)
        x, y = numbers(model, drawn, rng)
        twin = keras.models.clone_model(model)
        twin.set_weights(model.get_weights())
        train(model, x, y, True)
        train(twin, x, y, False)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        found, expected = loaded(x), model(x)
        for at, case in enumerate(drawn):
            dtype = case["layer"]["dtype"]
            kind = "keras float32" if dtype == "float32" else dtype
            for name in (f"layer_{at}", f"dense_{at}"):
                mine, others = (m.get_layer(name).trainable_weights for m in (model, twin))
                for a, b in zip(mine, others, strict=True):
                    assert_close(a, b, kind, a.path)
            assert_close(found[at], expected[at], "reload", f"loaded {at}")
            again, layer = (m.get_layer(f"layer_{at}") for m in (loaded, model))
            assert as_text(again.get_config()) == as_text(layer.get_config())

    check()
