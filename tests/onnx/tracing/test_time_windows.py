"""Convolutions and pooling in a stream: what is carried, which chunks fit, what is refused."""

import json

import keras
import numpy as np
import onnx
import pytest

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export_streaming import export_streaming
from keras_gated.onnx.streaming_session import STATES, STRIDE, StreamingSession
from keras_gated.onnx.tracing.time_windows import Window, chunk_stride, window_of
from tests.onnx.helpers import F, U, functional, on_tensorflow, randomized
from tests.onnx.streams import B, assert_close, assert_streams, numbers, whole

pytestmark = on_tensorflow
layers = keras.layers


def causal(kernel=3, filters=4, **arguments):
    return layers.Conv1D(filters, kernel, padding="causal", **arguments)


def gru(**arguments):
    return kg.GatedRNN(U, "gru", return_sequences=True, name="gru", **arguments)


def test_a_causal_convolution_in_front(path):
    model = functional(causal(4, activation="tanh", name="conv"), gru())
    report = export_streaming(model, path)
    assert report.inputs == ("x", "conv_x", "gru_h") and report.largest_difference < 1e-5
    (listed,) = [p.value for p in onnx.load(path).metadata_props if p.key == STATES]
    state = {"input": "conv_x", "output": "conv_x_out", "shape": [3, F], "dtype": "float32"}
    assert json.loads(listed)[0] == state
    session, x = StreamingSession(path), numbers(B, 9, F)
    assert session.stride == 1
    steps = [session.step(x[:, t]) for t in range(9)]
    assert_close([np.stack(steps, axis=1)], whole(model, x))
    assert_close([session.state["conv_x"]], [x[:, -3:]])
    assert_streams(model, path, x, (1, 2, 6), (4, 5), (9,))
    assert kg.check_onnx(model, path).passed


CONVOLUTIONS = {
    "wide, one input": [causal(9, use_bias=False)],
    "dilated": [causal(3, dilation_rate=4)],
    "of one step": [causal(1)],
    "several": [causal(3), causal(2, dilation_rate=2, activation="relu"), causal(4, 2)],
    "normalised": [causal(3), layers.BatchNormalization(), layers.LayerNormalization()],
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("stack", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_causal_convolutions_of_stride_1(stack, path):
    model = functional(*(type(one).from_config(one.get_config()) for one in stack), gru())
    export_streaming(model, path)
    assert_streams(model, path, numbers(B, 40, F), (1,) * 40, (3, 30, 7), (40,))


def test_mixed_precision_is_exported_in_float32(path):
    model = functional(causal(3, dtype="mixed_float16", name="conv"), gru())
    assert export_streaming(model, path).largest_difference < 1e-5
    assert StreamingSession(path).state["conv_x"].dtype == "float32"


STRIDED = {
    "strides": (2, [causal(5, strides=2)]),
    "a window shorter than the stride": (3, [causal(2, strides=3)]),
    "in a row": (6, [causal(3, strides=2), causal(4), causal(3, strides=3)]),
    "frames": (4, [layers.Conv1D(4, 4, strides=4)]),
    "frames with gaps": (5, [layers.Conv1D(4, 3, strides=5, padding="same")]),
    "separable": (2, [layers.SeparableConv1D(4, 2, strides=2), layers.DepthwiseConv1D(1)]),
    "pooling": (6, [causal(3), layers.MaxPooling1D(2), layers.AveragePooling1D(3, padding="same")]),
    "of more steps": (1, [layers.UpSampling1D(2), causal(3, strides=2)]),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("stride", "stack"), STRIDED.values(), ids=STRIDED)
def test_chunks_of_a_multiple_of_the_stride(stride, stack, path):
    model = functional(*(type(one).from_config(one.get_config()) for one in stack), gru())
    export_streaming(model, path)
    session = StreamingSession(path)
    assert session.stride == stride
    lengths = [(stride, 3 * stride, 2 * stride), (stride,) * 6, (6 * stride,)]
    assert_streams(model, path, numbers(B, 6 * stride, F), *lengths)
    if stride > 1:
        before = session.state
        for call, shape in ((session.step, (B, F)), (session.chunk, (B, stride + 1, F))):
            with pytest.raises(ValueError, match=rf"'x'.*multiple of {stride} time.*Received: "):
                call(numbers(*shape))
        assert session.state.keys() == before.keys()
        assert dict(onnx_properties(path))[STRIDE] == str(stride)


def onnx_properties(path):
    return [(entry.key, entry.value) for entry in onnx.load(path).metadata_props]


def test_branches_of_the_same_stride_need_it_once(path):
    x = keras.Input((None, F), name="x")
    both = layers.Add()([causal(3, strides=2)(x), causal(1, strides=2)(x)])
    both = layers.Add()([causal(3, strides=2)(both), causal(2, strides=2)(both)])
    model = randomized(keras.Model(x, gru()(both)))
    export_streaming(model, path)
    assert StreamingSession(path).stride == 4
    assert_streams(model, path, numbers(B, 24, F), (4, 12, 8), (24,))


def test_a_shared_convolution_and_one_behind_a_recurrent_layer(path):
    shared, x = causal(3, F, name="shared"), keras.Input((None, F), name="x")
    y = gru()(shared(shared(x)))
    model = randomized(keras.Model(x, causal(2, name="head")(y)))
    report = export_streaming(model, path)
    assert report.inputs == ("x", "shared_x", "shared_2_x", "gru_h", "head_x")
    assert_streams(model, path, numbers(B, 12, F), (1, 5, 6), (12,))


def test_a_model_of_convolutions_alone(path):
    model = functional(causal(3, name="a"), causal(3, dilation_rate=2, name="b"))
    assert export_streaming(model, path).inputs == ("x", "a_x", "b_x")
    assert_streams(model, path, numbers(B, 12, F), (1, 5, 6), (12,))


def test_convolutions_along_another_axis_are_as_they_were(path):
    x = keras.Input((None, 6, 2), name="x")
    y = layers.Conv2D(2, (1, 3), strides=(1, 2), padding="same")(x)
    y = layers.TimeDistributed(layers.Conv1D(2, 3, padding="causal"))(y)
    y = layers.TimeDistributed(layers.GlobalAveragePooling1D())(y)
    model = randomized(keras.Model(x, gru()(y)))
    assert export_streaming(model, path).inputs == ("x", "gru_h")
    session, x = StreamingSession(path), numbers(B, 5, 6, 2)
    assert_close([np.stack([session.step(x[:, t]) for t in range(5)], 1)], whole(model, x))


def test_a_stateful_and_a_masked_layer_behind_a_convolution(path):
    x = keras.Input(batch_shape=(B, None, F), name="x")
    y = layers.Masking()(causal(3, name="conv")(x))
    model = randomized(keras.Model(x, gru(stateful=True)(y)))
    export_streaming(model, path)
    session, x = StreamingSession(path), numbers(B, 7, F)
    (expected,) = whole(model, x)
    assert_close(
        [np.concatenate([session.chunk(x[:, :3]), session.chunk(x[:, 3:])], 1)], [expected]
    )


REFUSED = {
    "valid": (layers.Conv1D(4, 3, name="conv"), r"'conv' \(Conv1D\) sees 3.*'valid'.*no output"),
    "same": (
        layers.Conv1D(4, 3, padding="same", dilation_rate=2, name="conv"),
        r"'conv' \(Conv1D\) sees 5.*'same'.*later inputs.*padding='causal'",
    ),
    "separable": (
        layers.SeparableConv1D(4, 3, padding="same", name="conv"),
        r"'conv' \(SeparableConv1D\) sees 3.*strides as long",
    ),
    "pooling": (
        layers.MaxPooling1D(3, strides=1, padding="same", name="pool"),
        r"'pool' \(MaxPooling1D\) sees 3 time steps.*strides=1.*strides as long",
    ),
}


@pytest.mark.parametrize(("layer", "words"), REFUSED.values(), ids=REFUSED)
def test_windows_that_reach_out_of_a_chunk_are_refused(layer, words, path):
    model = functional(type(layer).from_config(layer.get_config()), gru())
    with pytest.raises(ExportError, match=f"`model`.*Received: layer {words}.*export_onnx"):
        export_streaming(model, path)
    export_streaming(model, path, verify=False)  # as it is wired


class Doubled(layers.Conv1D):
    """A convolution with a call of its own."""

    def call(self, inputs):
        return 2.0 * super().call(inputs)


def test_a_causal_convolution_with_a_call_of_its_own_is_refused(path):
    model = functional(Doubled(4, 3, padding="causal", name="conv"), gru())
    with pytest.raises(ExportError, match=r"'conv' \(Doubled\).*call\(\) of its own"):
        export_streaming(model, path)
    strided = functional(Doubled(4, 2, strides=2), gru())
    export_streaming(strided, path)
    assert_streams(strided, path, numbers(B, 6, F), (2, 4))


# Without an export -------------------------------------------------------------------------------


def test_windows():
    layer = causal(3, strides=2, dilation_rate=1)
    assert window_of(layer, (None, None, F)) == Window(1, 3, 2, "causal")
    assert window_of(layer, (None, 8, F)) is None
    first = layers.Conv1D(4, 3, dilation_rate=4, data_format="channels_first")
    assert window_of(first, (None, F, None)) == Window(2, 9, 1, "valid")
    pool = layers.AveragePooling2D((1, 4), strides=(1, 2))
    assert window_of(pool, (None, 5, None, F)) == Window(2, 4, 2, "valid")


def test_the_stride_of_chunks():
    two, three = Window(1, 2, 2, "valid"), Window(1, 3, 3, "valid")
    one = Window(1, 9, 1, "causal")
    assert chunk_stride([one, None, two, three], [12, 12, 12, 6], 12) == 6
    assert chunk_stride([two, two], [4, 4], 4) == 2  # branches
    assert chunk_stride([two], [4], 2) == 1  # behind a layer that doubles the time steps
    assert chunk_stride([two, three], [None, None], 6) == 6  # not known: all strides
