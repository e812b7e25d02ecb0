"""Empty inputs: a guard makes an ordinary error of what would end the process."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_graph, make_tensor_value_info

import keras_gated as kg
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.graph.empty_input_guards import drop_needless_guards
from keras_gated.onnx.graph.writer import GraphWriter
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


# The graph alone --------------------------------------------------------------------------------


def guarded(*kinds) -> list:
    """Operators of a graph from x to y, a guard in front of each recurrent one, once cleaned."""
    ports = [make_tensor_value_info(name, 1, [None, None, F]) for name in "xy"]
    graph = make_graph([], "graph", ports[:1], ports[1:])
    write, last = GraphWriter(graph), "x"
    write.start("g")
    for kind in kinds:
        last = write.node(kind, [write.guard(last) if kind == "GRU" else last])
    graph.node.extend(write.finish({"y": last}))
    drop_needless_guards(graph)
    return [node.op_type for node in graph.node]


GUARDED = ["Shape", "Max", "Reshape"]


@pytest.mark.parametrize("between", [[], ["Squeeze"], ["Transpose", "Identity"]])
def test_behind_a_guarded_node_none_is_needed(between):
    assert guarded("GRU", *between, "GRU") == [*GUARDED, "GRU", *between, "GRU"]


@pytest.mark.parametrize("between", ["Slice", "Gather", "MatMul"])
def test_a_guard_stays_behind_what_may_drop_elements(between):
    assert guarded("GRU", between, "GRU") == [*GUARDED, "GRU", between, *GUARDED, "GRU"]


def test_all_of_three_in_a_row_read_the_one_guard():
    assert guarded("GRU", "GRU", "GRU") == [*GUARDED, "GRU", "GRU", "GRU"]
