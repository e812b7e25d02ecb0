"""Operations that tf2onnx cannot convert, or converts to something else."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tf2onnx
from keras import layers, ops

import keras_gated as kg
from tests.onnx.helpers import F, U, count_operators, functional, on_tensorflow, run

pytestmark = on_tensorflow


class Each(keras.Model):
    """Gives its input to several functions, for one export instead of many."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def call(self, x):
        return {name: function(x) for name, function in self.functions.items()}


def check(functions, x, path, atol=1e-6) -> dict:
    """The file's outputs, which are the functions' at these inputs."""
    model = Each(functions)
    signature = keras.InputSpec(shape=(None, None, F), dtype=str(x.dtype))
    kg.export_onnx(model, path, input_signature=signature)
    expected = model(x)
    found = dict(zip(sorted(expected), run(path, x), strict=True))
    for name, y in found.items():
        np.testing.assert_allclose(y, expected[name], rtol=3e-6, atol=atol, err_msg=name)
    return found


TINY = np.array([[[-1e-8, 1e-8, 3e-5], [-0.3, 0.4, 0.6], [-1.0, 2.0, 90.0]]], "float32")


def test_log1p_and_expm1_are_exact_near_zero(path):
    functions = {"log1p": ops.log1p, "expm1": ops.expm1}
    found = check(functions | {"logaddexp": lambda x: ops.logaddexp(x, 0.5)}, TINY, path, atol=0)
    assert found["log1p"][0, 0, 1] == np.float32(1e-8) and found["log1p"][0, 2, 0] == -np.inf
    far = np.array([[[np.inf, -np.inf, np.nan]]], "float32")
    log1p, _, expm1 = (y[0, 0] for y in (run(path, far)[k] for k in (1, 2, 0)))
    assert log1p[0] == np.inf and np.isnan(log1p[2])
    assert expm1[:2].tolist() == [np.inf, -1.0] and np.isnan(expm1[2])


def test_argmax_and_argmin(path):
    zeros = np.array([[[-0.0, 0.0, -1.0], [0.0, -0.0, 1.0], [2.0, 2.0, 1.0]]], "float32")
    functions = {
        "argmax": lambda x: ops.argmax(x, axis=-1),
        "argmin": lambda x: ops.argmin(x, axis=-1),
        "over_time": lambda x: ops.argmax(x, axis=1, keepdims=True),
        "sign": ops.signbit,
    }
    found = check(functions, zeros, path)
    assert found["argmax"].tolist() == [[1, 2, 0]]  # 0 is larger than -0


def test_a_choice_does_not_let_the_other_branch_through(path):
    functions = {
        "log": lambda x: ops.where(x > 0, ops.log(x), 1.0),
        "sinc": ops.sinc,
        "broadcast": lambda x: ops.where(x[:, :1] > 0, 1 / x, x),
    }
    found = check(functions, np.array([[[-1.0, 0.0, 2.0]]], "float32"), path)
    assert all(np.isfinite(y).all() for y in found.values())


def test_integers_are_divided_as_in_keras(path):
    numbers = np.array([[[-7, 7, 6]], [[-6, 0, -1]]], "int32")
    functions = {
        "div": lambda x: ops.floor_divide(x, 3),
        "mod": lambda x: ops.mod(x, 3),
        "negative": lambda x: ops.mod(x, -3),
        "real": lambda x: ops.mod(ops.cast(x, "float32"), 2.5),
        "real_div": lambda x: ops.floor_divide(ops.cast(x, "float32"), 2.5),
    }
    found = check(functions, numbers, path)
    assert found["mod"].ravel().tolist() == [2, 1, 0, 0, 0, 2]


def test_buckets_in_front_and_classes_behind(path):
    bins = layers.Discretization([-1.0, 0.0, 1.5])
    front = layers.Embedding(4, F, name="embedding")
    x = keras.Input((None,), name="x")
    y = kg.GatedGRU(U, return_sequences=True)(front(bins(x)))
    model = keras.Model(x, ops.argmax(layers.Dense(4)(y), axis=-1))
    kg.export_onnx(model, path)
    edges = np.array([[-1.0, -1.1, 0.0, 1.5, 9.0, np.inf, np.nan]], "float32")
    np.testing.assert_array_equal(run(path, edges)[0], model(edges))


def test_the_spectrum(path):
    audio = keras.Input((None,), name="audio")
    model = keras.Model(
        audio, layers.MelSpectrogram(fft_length=32, sequence_stride=8, num_mel_bins=4)(audio)
    )
    kg.export_onnx(model, path)
    sound = np.random.default_rng(0).standard_normal((2, 100)).astype("float32")
    np.testing.assert_allclose(run(path, sound)[0], model(sound), rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("mask_token", [None, 0])
def test_a_table_of_integers(mask_token, path):
    lookup = layers.IntegerLookup(vocabulary=[7, -3, 12], mask_token=mask_token)
    x = keras.Input((None,), name="x", dtype="int64")
    model = keras.Model(x, layers.Embedding(6, F)(lookup(x)))
    kg.export_onnx(model, path)
    numbers = np.array([[7, -3, 12, 0, 5]])
    np.testing.assert_array_equal(run(path, numbers)[0], model(numbers))


# Tensors from outside of the graph


def adapted():
    layer = layers.Normalization()
    layer.adapt(3 + 2 * np.random.default_rng(0).standard_normal((50, 4, F)).astype("float32"))
    return layer


@pytest.mark.parametrize("way", ["adapted", "given", "reloaded"])
def test_a_normalization_is_in_the_file(way, path, tmp_path):
    given = layers.Normalization(mean=[1.0, 2, 3], variance=[1.0, 4, 9])
    model = functional(given if way == "given" else adapted(), kg.GatedGRU(U, name="gru"))
    if way == "reloaded":
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    report = kg.export_onnx(model, path)
    assert report.inputs == ("x",) and report.largest_difference < 1e-5
    assert kg.export_streaming(model, path).inputs == ("x", "gru_h")


class Scaled(layers.Layer):
    """Holds a tensor that is no weight, larger than TensorFlow copies into a graph itself."""

    def __init__(self):
        super().__init__()
        self.scale = ops.convert_to_tensor(np.linspace(0, 1, 300 * F).reshape(300, F), "float32")

    def call(self, x):
        return x * self.scale[: ops.shape(x)[1]]


def test_a_tensor_of_a_users_layer_is_in_the_file(path):
    report = kg.export_onnx(functional(Scaled(), kg.GatedGRU(U, name="gru")), path)
    assert report.inputs == ("x",) and count_operators(path)["GRU"] == 1


# A loss


class CTC(layers.Layer):
    def call(self, scores, labels):
        count = ops.shape(scores)[0]
        lengths = [ops.full((count,), ops.shape(x)[1], "int32") for x in (labels, scores)]
        self.add_loss(ops.mean(ops.ctc_loss(labels, scores, *lengths)))
        return scores


def test_a_ctc_loss_is_to_be_cut_off(path):
    x = keras.Input((None, F), name="x")
    labels = keras.Input((4,), name="labels", dtype="int32")
    scores = layers.Dense(7, name="scores")(kg.GatedGRU(U, return_sequences=True)(x))
    model = keras.Model([x, labels], CTC(name="ctc")(scores, labels))
    with pytest.raises(kg.ExportError) as caught:
        kg.export_onnx(model, path)
    text = str(caught.value)
    assert "CTC loss" in text and "'functional" in text and "get_layer(NAME).output" in text
    assert len(text) < 500 and not Path(path).exists()
    kg.export_onnx(keras.Model(x, model.get_layer("scores").output), path)


def test_an_error_inside_the_converter_is_short(path, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("\n".join(["first line"] + 300 * ["more"]))

    monkeypatch.setattr(tf2onnx.convert, "from_function", fail)
    with pytest.raises(kg.ExportError, match="RuntimeError: first line Export parts") as caught:
        kg.export_onnx(functional(kg.GatedGRU(U)), path)
    assert len(str(caught.value)) < 600


def test_an_optimisation_that_fails_is_left_out(path, monkeypatch):
    class Failing:
        def optimize(self, graph, iteration):
            raise IndexError("a fault of tf2onnx")

    monkeypatch.setitem(tf2onnx.optimizer._optimizers, "merge_duplication", Failing)
    check({"sum": lambda x: x + 1.0}, TINY, path)
