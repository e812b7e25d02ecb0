"""export_streaming: chunks of any length, one after another, give what the whole sequence gives."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export_streaming import export_streaming
from keras_gated.onnx.streaming_session import StreamingSession
from keras_gated.onnx.tracing import streaming as streaming_call
from tests.onnx.helpers import (
    Either,
    F,
    U,
    count_operators,
    functional,
    native_nodes,
    on_tensorflow,
    randomized,
)
from tests.onnx.streams import B, assert_close, assert_streams, in_chunks, numbers, whole

pytestmark = on_tensorflow
layers = keras.layers


def test_shared_layers_and_several_inputs_and_outputs(path):
    a, b = keras.Input((None, F), name="a"), keras.Input((None, F), name="shared_h")
    bias = keras.Input((U,), name="bias")  # without a time axis
    shared = kg.GatedRNN(U, "lstm_peephole", return_sequences=True, name="shared")
    both = layers.Add(name="both")([shared(a), shared(b), layers.Reshape((1, U))(bias)])
    last = kg.GatedRNN(4, "mgu", name="last")(both)
    model = randomized(keras.Model([a, b, bias], [both, last]))
    report = export_streaming(model, path)
    assert report.inputs[3:] == (*("shared_h_2", "shared_c", "shared_2_h", "shared_2_c", "last_h"),)
    xs, c = [numbers(B, 8, F, seed=k) for k in (1, 2)], numbers(B, U)
    both, last = whole(model, *xs, c)
    session = StreamingSession(path)
    assert session.timed == {"a", "shared_h", "both"}
    steps = [session.step([x[:, t] for x in xs] + [c]) for t in range(8)]
    assert_close([np.stack([y["both"] for y in steps], 1), steps[-1]["last"]], [both, last])
    session.reset()
    named = {"bias": c, "a": xs[0][:, :5], "shared_h": xs[1][:, :5]}
    assert_close([session.chunk(named)["both"]], [both[:, :5]])
    with pytest.raises(ValueError, match=r"\['a', 'shared_h', 'bias'\].*Received: ndarray"):
        session.chunk(xs[0])
    with pytest.raises(ValueError, match=r"'bias' of shape \(batch, 5\).*shape \(1, 5\)"):
        session.chunk({**named, "bias": c[:1]})


def test_a_stateful_model_leaves_and_keeps_its_own_states(path):
    x = keras.Input(batch_shape=(B, None, F), name="x")
    y = layers.LSTM(U, stateful=True, return_sequences=True, name="stock")(x)
    y = kg.GatedRNN(U, "gru", stateful=True, return_sequences=True, name="gated")(y)
    model = randomized(keras.Model(x, kg.GatedRNN(4, "t_lstm", stateful=True, name="top")(y)))
    recurrent = model.layers[1:]
    model(numbers(B, 3, F))  # states of its own, which nothing may touch
    before = [keras.ops.convert_to_numpy(state) for one in recurrent for state in one.states]
    assert len(before) == 6 and all(state.any() for state in before)
    report = export_streaming(model, path)
    assert len(report.inputs) == 7 and "top_x" in report.inputs
    after = [keras.ops.convert_to_numpy(state) for one in recurrent for state in one.states]
    for a, b in zip(after, before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(layer.stateful for layer in recurrent)
    for layer in recurrent:
        layer.reset_state()
    session = StreamingSession(path)
    for k, time in enumerate((4, 1, 6)):
        x = numbers(B, time, F, seed=k)
        assert_close([session.chunk(x)], whole(model, x))
    opened = keras.InputSpec(shape=(None, None, F), dtype="float32")
    export_streaming(model, path, input_signature=opened)  # a batch of any size
    assert StreamingSession(path).chunk(numbers(7, 2, F)).shape == (7, 4)


def masked(*shape, seed=3):
    """A sequence some time steps of which hold 0, at the ends of chunks too."""
    x = numbers(*shape, seed=seed)
    x[0, [0, 3, 4, 7]] = 0.0
    x[1, 2:8] = 0.0
    x[2] = 0.0
    x[3, 5:] = 0.0
    return x


@pytest.mark.long
def test_masks_across_chunks(path):
    x = keras.Input((None, F), name="x")
    y = layers.Masking()(x)
    stack = [layers.GRUCell(U), kg.GatedCell(4, "lstm")]
    branches = [
        kg.GatedRNN(U, "lstm", return_sequences=True, name="lstm"),
        kg.GatedRNN(U, "qrnn_f", return_sequences=True, name="qrnn"),
        kg.GatedRNN(U, "t_lstm", name="t_lstm"),
        kg.GatedRNN(U, "cfn", return_sequences=True, name="scanned"),
        kg.GatedRNN(U, "gru", return_sequences=True, zero_output_for_mask=True, name="zero"),
        layers.LSTM(U, zero_output_for_mask=True, name="zero_last"),
        layers.LSTM(U, name="stock"),
        layers.RNN(stack, return_sequences=True, name="stack"),
    ]
    model = randomized(keras.Model(x, [layer(y) for layer in branches]))
    report = export_streaming(model, path)
    assert {"stack_cell_1_h", "stack_cell_2_c", "qrnn_x", "t_lstm_x"} <= set(report.inputs)
    assert native_nodes(path) == 8 and report.operators["Scan"] == 1
    assert_streams(model, path, masked(4, 9, F), (1,) * 9, (4, 5), (3, 4, 1, 1), (9,))


class Leaky(layers.Layer):
    """A cell of the user's own, with three states."""

    def __init__(self, units):
        super().__init__()
        self.units, self.state_size, self.output_size = units, [units] * 3, units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units))

    def call(self, x, states):
        h = 0.5 * states[0] + keras.ops.matmul(x, self.kernel)
        return h, [h, states[0], states[1] + h]


def test_stacks_stock_layers_and_cells_of_the_users_own(path):
    inner = keras.Input((None, F))
    stack = layers.RNN([layers.LSTMCell(U), layers.SimpleRNNCell(4)], return_sequences=True)
    nested = keras.Model(inner, stack(inner), name="encoder")
    model = functional(
        nested,
        layers.LSTM(U, return_sequences=True, name="enc"),
        layers.RNN(Leaky(U), return_sequences=True, name="leaky"),
        layers.RNN(kg.GatedCell(U, "mgu"), name="top"),
    )
    report = export_streaming(model, path)
    assert native_nodes(path) == 4 and "Loop" in report.operators
    assert {f"leaky_state_{k}" for k in (1, 2, 3)} <= set(report.inputs)
    assert len(report.inputs) == 1 + 3 + 2 + 3 + 1
    assert all("/" not in name for name in report.inputs)
    assert_streams(model, path, numbers(B, 8, F), (1, 7), (3, 3, 2))


def test_states_of_a_users_cell_are_not_h_and_c(path):
    class Average(Leaky):
        def __init__(self, units):
            super().__init__(units)
            self.state_size = [units] * 2

        def call(self, x, states):
            h, (_, *after) = super().call(x, [*states, states[0]])
            return h, after

    model = functional(layers.RNN(Average(U), return_sequences=True, name="average"))
    report = export_streaming(model, path, verify=False)
    assert report.inputs == ("x", "average_state_1", "average_state_2")


@pytest.mark.long
@pytest.mark.parametrize("lowering", ["scan", "loop"])
def test_other_lowerings_and_tokens(lowering, path):
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    y = layers.Embedding(7, F, mask_zero=True)(tokens)
    y = kg.GatedRNN(U, "nfg", return_sequences=True, name="lower")(y)
    model = randomized(keras.Model(tokens, layers.GRU(4, return_sequences=True, name="top")(y)))
    report = export_streaming(model, path, lowering=lowering, expected_batch=4)
    assert count_operators(path)[lowering.title()] == 2 and len(report.inputs) == 4
    x = np.array([[0, 1, 2, 0, 0, 3], [4, 0, 0, 5, 6, 0], [0, 0, 0, 0, 1, 1]], "int32")
    session = StreamingSession(path)
    steps = [session.step(x[:, t]) for t in range(6)]
    assert_close([np.stack(steps, axis=1)], whole(model, x))
    with pytest.raises(TypeError, match="int32.*float64"):
        session.step(np.zeros(3))


def test_mixed_precision_and_a_model_built_for_one_length(path):
    x = keras.Input((6, F), name="x")
    y = kg.GatedRNN(U, "lstm", return_sequences=True, unroll=True, dtype="mixed_float16")(x)
    model = randomized(keras.Model(x, layers.Dense(2, dtype="mixed_float16", name="head")(y)))
    with pytest.raises(ExportError, match=r"time axis.*'x' \(None, 6, 3\).*\(None, None, 3\)"):
        export_streaming(model, path)
    opened = keras.InputSpec(shape=(None, None, F), dtype="float32")
    report = export_streaming(model, path, input_signature=opened)
    assert report.largest_difference < 1e-5
    assert model.layers[1].unroll and model.layers[1].dtype_policy.name == "mixed_float16"
    session = StreamingSession(path)
    assert {state.dtype.name for state in session.state.values()} == {"float32"}
    x = numbers(B, 6, F)
    (found,) = in_chunks(session, (2, 1, 3), x)
    np.testing.assert_allclose(found, whole(model, x)[0], atol=5e-3)  # float16 there


def test_convolutional_lstm(path):
    x = keras.Input((None, 4, 4, 1), name="x")
    layer = layers.ConvLSTM2D(2, 3, padding="same", return_sequences=True, name="conv")
    model = randomized(keras.Model(x, layer(x)))
    report = export_streaming(model, path)
    assert report.inputs == ("x", "conv_h", "conv_c")
    session, x = StreamingSession(path), numbers(B, 5, 4, 4, 1)
    steps = [session.step(x[:, t]) for t in range(5)]
    assert_close([np.stack(steps, axis=1)], whole(model, x))


def test_layers_in_a_time_distributed_begin_anew_with_each_time_step(path):
    x = keras.Input((None, 4, F), name="x")
    words = layers.Bidirectional(kg.GatedRNN(U, "gru"), name="words")
    y = layers.TimeDistributed(words, name="sentences")(x)
    model = randomized(keras.Model(x, kg.GatedRNN(U, "lstm", name="text")(y)))
    report = export_streaming(model, path)
    assert report.inputs == ("x", "text_h", "text_c")
    assert "Loop" not in report.operators
    session, x = StreamingSession(path), numbers(B, 5, 4, F)
    for part in (x[:, :2], x[:, 2:4]):
        session.chunk(part)
    assert_close([session.step(x[:, 4])], whole(model, x))


def refused(model, path, words, **arguments):
    with pytest.raises(ExportError, match=words):
        export_streaming(model, path, **arguments)
    assert list(Path(path).parent.iterdir()) == []


def test_backward_layers_are_refused(path):
    both = layers.Bidirectional(kg.GatedRNN(U, "gru"), name="both")
    refused(functional(both), path, r"backwards.*\['both'")
    back = layers.GRU(U, go_backwards=True, name="back")
    refused(functional(back), path, r"backwards.*\['back'\].*export_onnx")


def test_layers_out_of_reach_are_refused(path):
    words = r"(?s)directly.*Received: layers \['"
    refused(functional(Either()), path, words)


def test_models_without_a_state_are_refused(path):
    refused(functional(layers.Dense(2)), path, "no states.*export_onnx")
    x, h = keras.Input((None, F), name="x"), keras.Input((U,), name="h")
    wired = kg.GatedRNN(U, "gru", name="wired")(x, initial_state=[h])
    words = r"no states except.*\['wired'\].*initial_state.*StreamingSession\.state"
    refused(keras.Model([x, h], wired), path, words)


def test_what_mixes_time_is_refused_and_the_old_file_stays(path):
    model = functional(
        kg.GatedRNN(U, "lstm", return_sequences=True),
        layers.UnitNormalization(axis=1, name="mixed"),  # over time
    )
    words = "(?s)in chunks.*'mixed' differs at.*1, 3, 2.*mixes time steps.*export_onnx"
    refused(model, path, words)
    Path(path).write_bytes(b"an older file")
    with pytest.raises(ExportError, match="'mixed'"):
        export_streaming(model, path)
    assert Path(path).read_bytes() == b"an older file"
    pooled = functional(kg.GatedRNN(U, "lstm", return_sequences=True), POOL)
    Path(path).unlink()
    refused(
        pooled,
        path,
        r"(?s)in chunks.*'pool' differs at.*layers 'pool' \(GlobalAverageP.*see one chunk alone",
    )


POOL = layers.GlobalAveragePooling1D(name="pool")


def test_an_encoder_decoder_begins_anew_with_every_chunk(path):
    x = keras.Input((None, F), name="x")
    _, *states = kg.GatedLSTM(U, return_state=True, name="encoder")(x)
    y = kg.GatedLSTM(U, return_sequences=True, name="decoder")(x, initial_state=states)
    model = randomized(keras.Model(x, y))
    refused(model, path, r"(?s)'decoder' differs.*\['decoder'\].*initial_state")
    report = export_streaming(model, path, verify=False)
    assert report.inputs == ("x", "encoder_h", "encoder_c")  # the decoder's stay as wired
    assert_close([StreamingSession(path).chunk(numbers(B, 4, F))], whole(model, numbers(B, 4, F)))


def folded(x):
    """(B, T, 4, F) to (B 4, T, F)."""
    x = keras.ops.transpose(x, (0, 2, 1, 3))
    return keras.ops.reshape(x, (-1, keras.ops.shape(x)[2], F))


def test_an_axis_folded_into_the_batch_is_refused_as_such(path, capfd):
    x = keras.Input((None, 4, F), name="x")
    y = kg.GatedRNN(U, "gru", name="each")(layers.Lambda(folded, output_shape=(None, F))(x))
    words = r"states \['each_h'\] do not have one row for each row of the batch.*folds"
    refused(keras.Model(x, y), path, words)
    assert "onnxruntime" not in capfd.readouterr().err  # nor on the screen


def test_recurrent_layers_in_a_time_distributed_over_another_axis_are_refused(path):
    x = keras.Input((None, 4, F), name="x")
    each = layers.TimeDistributed(kg.GatedRNN(U, "gru", name="inner"), name="bands")
    y = kg.GatedRNN(4, "gru")(layers.Reshape((-1, 4 * U))(each(layers.Permute((2, 1, 3))(x))))
    refused(keras.Model(x, y), path, r"'bands' \(TimeDistributed\).*axis of length 4.*not time")


class Learned(layers.Layer):
    """A state that is a weight."""

    def build(self, shape):
        self.state = self.add_weight(shape=(1, U), initializer="ones")

    def call(self, x):
        return keras.ops.tile(self.state, (keras.ops.shape(x)[0], 1))


def test_a_learned_initial_state_is_refused_and_can_be_set_in_the_session(path):
    x, learned = keras.Input((None, F), name="x"), Learned()
    layer = kg.GatedRNN(U, "gru", return_sequences=True, name="enc")
    head = layers.GRU(U, return_sequences=True, name="head")
    model = keras.Model(x, head(layer(x, initial_state=[learned(x)])))
    refused(model, path, r"calls \['enc'\] begin every chunk.*set StreamingSession\.state")
    export_streaming(keras.Model(x, head(layer(x))), path)  # as the message says
    session, x = StreamingSession(path), numbers(B, 6, F)
    first = {"enc_h": np.tile(learned.state, (B, 1)), "head_h": np.zeros((B, U))}
    session.state = first
    assert_close(in_chunks(session, (2, 1, 3), x), whole(model, x))


def test_a_graph_that_is_wrong_is_refused_as_such(path, monkeypatch):
    monkeypatch.setattr(
        streaming_call, "_repeat_previous_output", lambda _, states, m, last, y: (last, -y)
    )
    model = functional(kg.GatedRNN(U, "lstm", return_sequences=True, name="enc"))
    refused(model, path, "converted graph.*'enc' differs")


def test_states_that_are_swapped_are_refused(path, monkeypatch):
    right = streaming_call.StreamingCall.__call__

    def swapped(self, *tensors):
        outputs = right(self, *tensors)
        if self.states:
            outputs["enc_h_out"], outputs["enc_c_out"] = outputs["enc_c_out"], outputs["enc_h_out"]
        return outputs

    monkeypatch.setattr(streaming_call.StreamingCall, "__call__", swapped)
    model = functional(kg.GatedRNN(U, "lstm", return_sequences=True, name="enc"))
    refused(model, path, "in chunks.*'enc' differs")


def test_a_failed_export_leaves_the_layers_as_they_were(path):
    x = keras.Input(batch_shape=(B, None, F), name="x")
    layer = kg.GatedRNN(U, "gru", stateful=True, return_sequences=True)
    model = keras.Model(x, layers.UnitNormalization(axis=1)(layer(x)))
    refused(model, path, "in chunks")
    assert layer.stateful and "inner_loop" not in vars(layer)
    assert not any(keras.ops.convert_to_numpy(state).any() for state in layer.states)


def test_arguments(path):
    model = functional(kg.GatedRNN(U, "lstm"))
    with pytest.raises(ValueError, match="`opset`.*opset=9"):
        export_streaming(model, path, opset=9)
    with pytest.raises(ValueError, match="`model`.*int"):
        export_streaming(3, path)  # type: ignore[arg-type]
