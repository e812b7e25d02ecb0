"""A converted layer uses the mask that the original used."""

import keras
import numpy as np

import keras_gated as kg
from tests.convert.helpers import LAYERS, T
from tests.helpers import F, assert_close, raises


def decoder(both_ways=False, make=LAYERS.LSTM):
    """A decoder with a masked input that gets its states from an encoder."""
    words, spoken = (keras.Input((T,), dtype="int32", name=name) for name in ("words", "spoken"))
    embed = LAYERS.Embedding(9, F, mask_zero=True)
    _, *states = make(4, return_state=True)(embed(words))
    layer = make(4, return_sequences=True)
    layer, states = (
        (LAYERS.Bidirectional(layer, name="both"), states * 2) if both_ways else (layer, states)
    )
    y = layer(embed(spoken), initial_state=states)
    y = LAYERS.GRU(3, return_sequences=True)(y)  # has the mask again
    return keras.Model([words, spoken], LAYERS.MultiHeadAttention(2, 3)(y, y))


def test_the_mask_that_keras_loses_is_lost_in_the_copy():
    spoken = np.array([[4, 3, 2, 0, 0], [1, 2, 3, 4, 5], [3, 0, 0, 0, 0], [2, 1, 0, 0, 0]])
    inputs = [np.ones_like(spoken), spoken]
    model = decoder()
    twin = kg.from_keras(model)
    assert_close(twin(inputs), model(inputs), "keras float32", "from_keras")
    assert_close(kg.to_keras(twin)(inputs), model(inputs), "keras float32", "to_keras")
    gated = decoder(make=kg.GatedLSTM)
    assert_close(kg.to_keras(gated)(inputs), gated(inputs), "keras float32", "mask is passed")
    raises(
        lambda: kg.from_keras(decoder(both_ways=True)),
        "`layer`...Received: Bidirectional 'both'...initial_state=...mask=",
    )


def test_lengths_have_no_counterpart_in_keras():
    x, n = keras.Input((T, F), name="x"), keras.Input((), dtype="int32", name="n")
    model = keras.Model([x, n], kg.GatedGRU(4, name="memory")(x, lengths=n))
    raises(lambda: kg.to_keras(model), "`layer`...GatedGRU 'memory', called with lengths=...mask=")


def test_resets_have_no_counterpart_in_keras():
    x, r = keras.Input((T, F), name="x"), keras.Input((T,), dtype="bool", name="r")
    model = keras.Model([x, r], kg.GatedGRU(4, name="memory")(x, resets=r))
    raises(lambda: kg.to_keras(model), "`layer`...GatedGRU 'memory', called with resets=...gated")


def test_a_layer_that_ignores_its_mask_is_saved_so(tmp_path):
    spoken = np.array([[4, 3, 2, 0, 0], [1, 2, 3, 4, 5]])
    twin = kg.from_keras(decoder())
    twin.save(tmp_path / "decoder.keras")
    again = keras.saving.load_model(tmp_path / "decoder.keras")
    inputs = [np.ones_like(spoken), spoken]
    assert_close(again(inputs), twin(inputs), "reload", "decoder")
