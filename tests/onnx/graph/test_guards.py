"""Empty inputs: a guard makes an ordinary error of what would end the process."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

import keras_gated as kg
from keras_gated.onnx.export import export_onnx
from tests.onnx.helpers import F, Leaky, U, functional, on_tensorflow, refused_when_empty

pytestmark = on_tensorflow
layers = keras.layers


def rnn(name="lstm", **options):
    return kg.GatedRNN(U, name, return_sequences=True, **options)


@pytest.mark.parametrize("name", ["lstm", "gru", "elman"])
def test_an_empty_batch_is_an_ordinary_error(name, path):
    export_onnx(functional(rnn(name)), path, verify=False)
    assert refused_when_empty(path)


STACKS = {  # and how many guards they need: what comes straight from a guarded node is not empty
    "three layers": (lambda: [rnn(), rnn("gru"), rnn("elman", go_backwards=True)], 1),
    "both directions": (lambda: [keras.layers.Bidirectional(rnn()), rnn("gru")], 1),
    "a layer between": (lambda: [rnn(), keras.layers.Dense(4), rnn("gru")], 2),
    "a slice between": (lambda: [rnn(), keras.layers.Cropping1D((2, 1)), rnn("gru")], 2),
}


@pytest.mark.parametrize("layers, guards", STACKS.values(), ids=STACKS)
def test_a_stack_is_guarded_where_it_must_be(layers, guards, path):
    export_onnx(functional(*layers()), path, lowering="native", verify=False)
    names = [node.name for node in onnx.load(path).graph.node]
    assert sum(name.endswith("not_empty") for name in names) == guards
    assert refused_when_empty(path)


@pytest.mark.parametrize("shape", [(0, 4, F), (2, 0, F)])
def test_an_empty_batch_of_a_loop_is_an_ordinary_error(shape, path):
    # Without a guard the process would end here.
    export_onnx(functional(layers.RNN(Leaky(U), return_sequences=True)), path, verify=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail, match="not_empty"):
        session.run(None, {"x": np.zeros(shape, "float32")})
    (y,) = session.run(None, {"x": np.zeros((2, 4, F), "float32")})
    assert y.shape == (2, 4, U)
