"""Every cell with all options that it can have, at once."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import BACKEND, SHORT, B, U, assert_close
from tests.layers.helpers import P
from tests.typical import OTHERS, TYPICAL


def allowed(name: str, **options) -> dict:
    """The options that the cell does not refuse."""
    accepted: dict = {}
    for key, value in options.items():
        try:
            kg.GatedRNN(U, name, **accepted, **{key: value})
        except ValueError:
            continue
        accepted[key] = value
    return accepted


NEED_LAYER = {"dropout": 0.2, "recurrent_dropout": 0.2, "candidate_dropout": 0.2, "zoneout": 0.2}
MORE = {"weight_noise": 0.05, "state_clip": 1.5, "batch_norm": True}
SETS = [NEED_LAYER | MORE, {"layer_norm": True, "projection_units": P, **NEED_LAYER}]
CHUNKS = [TYPICAL[k::5] for k in range(5)] + [OTHERS[k::8] for k in range(8)]


chunks = pytest.mark.parametrize(
    "names",
    [["min_gru"], *(pytest.param(chunk, marks=pytest.mark.long) for chunk in CHUNKS)],
    ids="-".join,
)


def test_what_cells_have_of_the_options():
    every = {name for given in SETS for name in given}
    for name, lacks in {"lstm": set(), "gru": {"projection_units"}, "fgr": set()}.items():
        assert every - {key for given in SETS for key in allowed(name, **given)} == lacks


@pytest.mark.long
@pytest.mark.skipif(BACKEND == "torch", reason="no compiler")
@chunks
def test_every_preset_trains_compiled_and_is_saved_with_its_options(names, tmp_path):
    x = keras.Input((SHORT, U))
    cells = [(name, allowed(name, **given)) for name in names for given in SETS]
    layers = [kg.GatedRNN(U, name, seed=1, **given) for name, given in cells]
    model = keras.Model(x, [keras.layers.Dense(1)(layer(x)) for layer in layers])
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
    before = model.get_weights()
    model.compile("sgd", ["mse"] * len(layers), jit_compile=True)
    data = rng.normal(size=(B, SHORT, U)).astype("float32")
    assert np.isfinite(model.train_on_batch(data, [np.ones((B, 1))] * len(layers))).all()
    still = [
        weight.path
        for weight, old in zip(model.weights, before, strict=True)
        if weight.trainable and np.array_equal(old, weight)
    ]
    assert not still
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for layer, (_, given) in zip(loaded.layers[1:], cells, strict=False):
        assert layer.cell.options() == given
    for one, other in zip(loaded(data), model(data), strict=True):
        assert_close(one, other, "xla", "loaded")
