"""Models that are exported from a process on another backend, and what that process does."""

import json
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime

import keras_gated as kg
from keras_gated.onnx.report import as_json

VOCABULARY, UNITS = 11, 5


register = keras.saving.register_keras_serializable(package="tests")


@register
class Shift(keras.layers.Layer):
    """A custom layer: the other process must find it."""

    def __init__(self, by=0.25, **kwargs):
        super().__init__(**kwargs)
        self.by, self.supports_masking = by, True

    def call(self, inputs):
        return inputs + self.by

    def get_config(self):
        return super().get_config() | {"by": self.by}


@register
class Tagger(keras.Model):
    """A subclassed model, which does not know its inputs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.sequence = sequence()

    def call(self, inputs):
        x = inputs["ids"]
        for layer in self.sequence:
            x = layer(x)
        return {"tags": x}


class Unregistered(Shift):
    """Keras finds it only if told."""


@register
def half(x):
    return 0.5 * x


def sequence() -> list:
    gru = kg.GatedGRU(UNITS, return_sequences=True, name="gru")
    return [
        keras.layers.Embedding(VOCABULARY, 4, mask_zero=True),
        keras.layers.Bidirectional(gru, name="both"),
        Shift(),
        kg.GatedRNN(UNITS, "mgu", name="mgu"),
        keras.layers.Dense(3, name="tags"),
    ]


def functional() -> keras.Model:
    ids = x = keras.Input((None,), dtype="int32", name="ids")
    for layer in sequence():
        x = layer(x)
    return keras.Model(ids, x)


def small(*layers) -> keras.Model:
    return keras.Sequential([keras.Input((None, 3), name="x"), *layers, kg.GatedGRU(2)])


def randomize(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights([0.5 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def whole_export(subclassed: bool) -> None:
    """Exports and checks; prints as JSON what it found."""
    path, (model, given, signature) = Path("model.onnx"), made(subclassed)
    ids = keras.tree.flatten(given)[0]
    expected = keras.tree.flatten(model(given))[0]
    report = exported_here(model, signature)
    (found,) = onnxruntime.InferenceSession(path).run(None, {"ids": ids})
    parity = kg.check_onnx(model, path, input_signature=signature)
    spoil(path, "spoilt.onnx")
    spoilt = kg.check_onnx(model, "spoilt.onnx", input_signature=signature)
    forward = randomize(small(Unregistered()))
    modules = [Unregistered.__module__]
    stream = kg.export_streaming(forward, "stream.onnx", modules=modules)
    int8 = kg.quantize_onnx(forward, "int8.onnx", modules=modules)
    result = {
        "backend": keras.backend.backend(),
        "report": as_json(report),
        "files": sorted(file.name for file in Path().glob("*")),
        "difference": float(np.abs(keras.ops.convert_to_numpy(expected) - found).max()),
        "parity": [parity.passed, parity.largest_difference],
        "spoilt": [spoilt.passed, *spoilt.problems],
        "stream": [*stream.inputs, *stream.outputs, stream.largest_difference],
        "int8": [node.operator for node in int8.nodes if node.quantized],
    }
    print(json.dumps(result))


def made(subclassed: bool) -> tuple:
    """A model with random weights, an input for it, and what tells its inputs."""
    ids = np.array([[4, 0, 7, 1, 2, 0, 0], [0, 0, 0, 3, 9, 10, 5]], "int32")  # 0 is masked
    signature = {"ids": keras.InputSpec(shape=(None, None), dtype="int32")} if subclassed else None
    model, given = (Tagger(), {"ids": ids}) if subclassed else (functional(), ids)
    model(given)
    return randomize(model), given, signature


def exported_here(model, signature) -> kg.ExportReport:
    arguments = {"input_signature": signature, "lowering": {"mgu": "scan"}}
    return kg.export_onnx(model, "model.onnx", **arguments)


def spoil(path, spoilt) -> None:
    """Writes the file with one weight of the dense layer changed."""
    proto = onnx.load(path)
    weight = next(w for w in proto.graph.initializer if "tags" in w.name)
    array = onnx.numpy_helper.to_array(weight).copy()
    array.flat[0] += 0.01
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(proto, spoilt)
