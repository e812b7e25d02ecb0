"""Whatever a layer of a model keeps is in the converted model too."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from tests.convert.helpers import LAYERS, T, X, adapted, assert_same, flat, in_front
from tests.helpers import BACKEND, B, F, assert_close, raises

WORDS = np.array([["a", "b", "c"], ["b", "b", "a"]])
NUMBERS = np.array([[5, 6, 7], [7, 7, 1]])


def scale(x):
    return 3.0 * x


def other_scale(x):
    return 2.0 * x


other_scale.__name__ = "scale"


class Standardised(LAYERS.Layer):
    """Keeps arrays, a constant of the backend and a dictionary outside its weights."""

    def adapt(self, data):
        self.mean, self.deviation = data.mean((0, 1)), ops.convert_to_tensor(data.std((0, 1)))
        self.more = {"factors": [2.0, 0.5]}

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.square = lambda x: x * x  # made anew with the layer

    def build(self, shape):
        self.bias = self.add_weight(shape=(shape[-1],), initializer="ones")
        self.dense = LAYERS.Dense(2)
        self.dense.build(shape)

    def call(self, x):
        x = ops.subtract(x, self.mean) / self.deviation
        return self.dense(self.square(x) * self.more["factors"][0] + self.bias)


class Closed(LAYERS.Layer):
    """Has no configuration: Keras cannot write an array."""

    def __init__(self, factor, weights=False):
        super().__init__(name="closed")
        self.factor, self.has_weights = factor, weights

    def build(self, shape):
        self.w = self.add_weight(shape=()) if self.has_weights else 0.0

    def call(self, x):
        return ops.multiply(x, self.factor) + self.w


class Noise(LAYERS.Layer):
    """Draws at inference too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), seed=self.seed_generator)


class Inner(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = LAYERS.Dense(3)

    def call(self, x):
        return self.dense(x)


def with_lora():
    model = in_front(LAYERS.Dense(3))
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_b.assign(np.ones((2, 3)))
    return model


def shared():
    x = keras.Input((T, F), name="x")
    normal, dense = adapted(LAYERS.Normalization(), X), LAYERS.Dense(F)
    inner = keras.Sequential([keras.Input((T, F)), dense, LAYERS.GRU(F, return_sequences=True)])
    y = inner(normal(x))
    return keras.Model(x, {"y": y, "z": inner(dense(normal(y)))})


MODELS = {
    "adapted": lambda: in_front(adapted(LAYERS.Normalization(), 3 * X + 5)),
    "given": lambda: in_front(LAYERS.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 1.0, 2.0])),
    "bins": lambda: in_front(
        adapted(LAYERS.Discretization(num_bins=4, output_mode="one_hot"), X[:, :, :1]),
        shape=(T, 1),
    ),
    "nested": lambda: in_front(keras.Sequential([adapted(LAYERS.Normalization(), 3 * X)])),
    "shared": shared,
    "attributes": lambda: in_front(adapted(Standardised(), 3 * X + 5)),
    "of frames": lambda: in_front(LAYERS.TimeDistributed(LAYERS.Lambda(scale))),
    "lambda": lambda: in_front(LAYERS.Lambda(lambda x: ops.sin(x))),
    "lambda as activation": lambda: in_front(LAYERS.Dense(2, activation=lambda x: ops.sin(x))),
    "functions of one name": lambda: in_front(
        LAYERS.Dense(2, activation=scale), LAYERS.Dense(2, activation=other_scale)
    ),
    "no configuration": lambda: in_front(Closed(np.full(F, 2.0, "float32"))),
    "noise": lambda: in_front(Noise()),
    "subclassed model": lambda: in_front(Inner()),
    "lora": with_lora,
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", MODELS)
def test_layers_keep_their_state(name):
    model = MODELS[name]()
    x = X[:, :, :1] if name == "bins" else X
    with keras.StatelessScope():
        expected = flat(model(x))
    twin = kg.from_keras(model)
    for other in (twin, kg.to_keras(twin)):
        with keras.StatelessScope():
            results = flat(other(x))
        for one, right in zip(results, expected, strict=True):
            assert_close(one, right, "keras float32", name)
    assert not set(map(id, model.weights)) & set(map(id, twin.weights))
    if name != "no configuration":
        assert not set(map(id, model.layers)) & set(map(id, twin.layers))


class MyCell(LAYERS.SimpleRNNCell):
    pass


def test_recurrent_layers_that_stay_are_copied_too():
    layers = [LAYERS.RNN(MyCell(4), return_sequences=True), LAYERS.GRU(3, activation=scale)]
    model = keras.Sequential([keras.Input((T, F)), *layers])
    assert_same([kg.to_keras(model)], model)


LOOKUPS = {
    "string": (lambda: LAYERS.StringLookup(), WORDS, "string"),
    "one-hot": (lambda: LAYERS.StringLookup(output_mode="one_hot"), WORDS, "string"),
    "integer": (lambda: LAYERS.IntegerLookup(), NUMBERS, "int64"),
    "text": (lambda: LAYERS.TextVectorization(output_sequence_length=4), WORDS[:, :1], "string"),
}


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a model can hold these on TensorFlow alone")
@pytest.mark.parametrize("name", LOOKUPS)
def test_vocabularies_are_kept(name):
    make, data, dtype = LOOKUPS[name]
    layers = [adapted(make(), data)]
    if name != "one-hot":
        layers.append(LAYERS.Embedding(9, F))
    model = in_front(*layers, shape=data.shape[1:], dtype=dtype)
    twin, data = kg.from_keras(model), ops.convert_to_tensor(data)
    assert_close(twin(data), model(data), "keras float32", name)
    assert_close(kg.to_keras(twin)(data), model(data), "keras float32", name)


def test_a_layer_that_cannot_be_copied_is_named():
    model = in_front(Closed(np.full(F, 2.0), weights=True))
    raises(lambda: kg.from_keras(model), "`layer`...Received: Closed 'closed'...get_config()")


class Tied(LAYERS.Layer):
    """Uses the weights of another layer."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def call(self, x):
        return x @ ops.transpose(self.layer.kernel)

    def get_config(self):
        return super().get_config() | {"layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)


def test_layers_that_share_a_weight_are_not_torn_apart():
    dense = LAYERS.Dense(4, use_bias=False)
    model = in_front(dense, Tied(dense))
    raises(lambda: kg.from_keras(model), "`layer`...Received: Sequential...5 weights, and not 4")


def test_the_original_stays_as_it_was():
    model = in_front(LAYERS.Dropout(0.5), Noise(), LAYERS.BatchNormalization())
    before = [ops.convert_to_numpy(v) for v in model.variables]
    kg.from_keras(model)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def test_stateful_layers_go_on_from_their_states():
    both = LAYERS.Bidirectional(LAYERS.GRU(3, stateful=True))
    lstm = LAYERS.LSTM(4, stateful=True, return_sequences=True)
    model = keras.Sequential([keras.Input(batch_shape=(B, T, F)), lstm, both])
    model(X)
    assert_same([kg.from_keras(model)], model)


def test_what_is_frozen_stays_frozen():
    model = in_front(LAYERS.Dense(3), LAYERS.GRU(4, return_sequences=True), LAYERS.Dense(2))
    model.layers[0].bias.trainable = False
    model.layers[1].cell.kernel.trainable = False
    model.layers[2].trainable = False
    twin = kg.from_keras(model)
    for other in (twin, kg.to_keras(twin)):
        assert [w.trainable for w in other.weights] == [w.trainable for w in model.weights]
    model.trainable = False
    model.layers[1].trainable = True
    twin = kg.from_keras(model)
    for other in (twin, kg.to_keras(twin)):
        assert [one.trainable for one in other.layers] == [one.trainable for one in model.layers]
        assert not other.trainable and not other.trainable_weights


# Compiled models


def my_loss(y, prediction):
    return ops.mean(ops.abs(y - prediction), axis=-1)


class MyMetric(keras.metrics.Mean):
    def update_state(self, y, prediction, sample_weight=None):
        super().update_state(ops.square(y - prediction))


class MyOptimizer(keras.optimizers.Adam):
    pass


class MyRate(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.01

    def get_config(self):
        return {}


COMPILED = {
    "objects": {"optimizer": MyOptimizer(MyRate()), "loss": my_loss, "metrics": [MyMetric()]},
    "names and a lambda": {
        "optimizer": "adam",
        "loss": lambda y, p: ops.mean((y - p) ** 2),
        "loss_weights": [2.0],
        "metrics": ["mae", my_loss],
    },
}


@pytest.mark.long
@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_model_goes_on_learning(name):
    # Without a seed dropout on torch would draw from the global generator.
    model, y = in_front(LAYERS.Dropout(0.3, seed=1), LAYERS.Dense(3)), np.ones((B, 4), "float32")
    model.compile(**COMPILED[name])
    model.fit(X, y, verbose=0)
    histories = []
    for one in (kg.from_keras(model), model):
        histories.append(one.fit(X, y, epochs=2, shuffle=False, verbose=0).history)
    assert histories[0].keys() == histories[1].keys()
    for key, values in histories[1].items():
        assert_close(histories[0][key], values, "keras float32", key)


def test_a_metric_that_cannot_be_copied_is_said():
    model = in_front()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.compile("adam", "mse", metrics=[lambda y, p: ops.mean(p)])
    with pytest.warns(UserWarning, match=r"(?s)not:.*compile\(\)"):
        twin = kg.from_keras(model)
    assert not twin.compiled
