"""A converted model is compared with the original: what got lost is found."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.convert.helpers import LAYERS, T, in_front
from tests.helpers import F, raises


class Hidden(LAYERS.Layer):
    """Keeps a state where nothing finds it."""

    class Box:
        factor = 1.0

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.box = Hidden.Box()

    def call(self, x):
        return x * self.box.factor


def test_a_state_that_is_lost_is_an_error_that_names_the_layer():
    model = in_front(LAYERS.Dense(3), Hidden(name="secret"))
    model.layers[1].box.factor = 3.0
    raises(
        lambda: kg.from_keras(model),
        "`layer`...Received: Sequential...other numbers...Hidden 'secret'...save_own_variables",
    )


def random_layer(x):
    noise = np.random.default_rng().standard_normal(F)
    return x + keras.ops.convert_to_tensor(noise.astype("float32"))


COMPARED_WITH_CARE = {
    "draws numbers itself": lambda: in_front(LAYERS.Lambda(random_layer)),
    "takes long sequences only": lambda: in_front(LAYERS.Conv1D(2, 20), shape=(None, F)),
    "gives no number": lambda: in_front(LAYERS.Rescaling(np.inf)),
    "takes none of the inputs": lambda: keras.Sequential(
        [keras.Input((T,), dtype="int32"), LAYERS.Embedding(1, F), LAYERS.LSTM(4)]
    ),
    "grows": lambda: in_front(
        LAYERS.SimpleRNN(8, "relu", recurrent_initializer="ones", return_sequences=True)
    ),
}


@pytest.mark.parametrize("name", COMPARED_WITH_CARE)
def test_no_false_alarm(name):
    kg.from_keras(COMPARED_WITH_CARE[name]())
