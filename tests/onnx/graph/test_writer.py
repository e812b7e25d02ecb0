"""The writer of a graph: names, constants, and what nothing reads."""

import keras
import numpy as np
import onnx
import pytest

from keras_gated.onnx.graph.writer import GraphWriter
from tests.onnx.helpers import on_tensorflow

pytestmark = on_tensorflow
layers = keras.layers


def test_one_name_for_two_constants_is_an_error():
    write = GraphWriter(onnx.GraphProto())
    assert write.constant("w", np.ones(2)) == write.constant("w", np.ones(2)) == "w"
    with pytest.raises(AssertionError, match="two constants are called 'w'"):
        write.constant("w", np.zeros(2))
