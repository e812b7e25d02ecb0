"""The one place that touches tf2onnx: a traced function in, an ONNX model out.

tf2onnx logs what it cannot do and goes on; here what it logs is kept and told with the failure.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from keras_gated.onnx.errors import require

STUB, TENSORFLOW_STUB = "KerasGatedStub", "PyFuncStateless"
Handlers = dict[str, tuple[Callable, list]]  # by TensorFlow's operation
OPSETS = range(13, 19)  # axes as inputs need 13; tf2onnx 1.17 ends at 18


def convert(function: Any, signature: list, opset: int, shapes: Mapping[str, list]) -> tuple:
    """Converts a tf.function to ONNX; stubs stay, as nodes of type `STUB` with their token.

    Args:
        function: a tf.function that returns a dictionary of tensors by output name.
        signature: one tf.TensorSpec for each input, with its name.
        opset: int, of the ONNX standard.
        shapes: for each token, the shapes of the stub's outputs, -1 for open dimensions.

    Returns:
        The onnx.ModelProto and the list of what tf2onnx complained about.
    """
    (tf2onnx,) = require("tf2onnx")
    handlers: Handlers = {TENSORFLOW_STUB: (partial(_keep_stub, shapes), [])}
    with _Complaints() as complaints:
        model, _ = tf2onnx.convert.from_function(
            function, signature, opset=opset, custom_op_handlers=handlers | HANDLERS
        )
    return model, complaints.texts


def convert_graph(graph: Any, inputs: Sequence[str], outputs: Sequence[str], opset: int) -> Any:
    """Converts a tf.Graph between some of its tensors; returns an onnx.GraphProto.

    What has no ONNX form stays as it is: `finishing.check_graph` finds it in the whole file.
    """
    (tf2onnx,) = require("tf2onnx")
    with _Complaints():
        model, _ = tf2onnx.convert.from_graph_def(
            graph.as_graph_def(),
            input_names=list(inputs),
            output_names=list(outputs),
            opset=opset,
            custom_op_handlers=HANDLERS,
        )
    return model.graph


def token_of(node: Any) -> str:
    """Returns the token of a stub in an ONNX graph."""
    return next(a.s.decode() for a in node.attribute if a.name == "token")


def _keep_stub(shapes: Mapping[str, list], graph: Any, node: Any, name: str, _: list) -> None:
    """tf2onnx's handler: renames the stub, and tells the shapes that TensorFlow does not know."""
    node.type = STUB
    token = node.get_attr_value("token")
    token = token.decode() if isinstance(token, bytes) else token
    for output, shape in zip(node.output, shapes.get(token, []), strict=False):
        graph.set_shape(output, shape)


def _spell_out_erfc(graph: Any, node: Any, name: str, _: list) -> None:
    """erfc(x) as 1 - erf(x): tf2onnx has no other form, and every exact GELU has it."""
    (tf2onnx,) = require("tf2onnx")
    dtype = tf2onnx.utils.map_onnx_to_numpy_type(graph.get_dtype(node.input[0]))
    one = graph.make_const(f"{name}/one", np.array(1, dtype))
    erf = graph.make_node("Erf", [node.input[0]], name=f"{name}/erf")
    node.type = "Sub"
    graph.replace_inputs(node, [one.output[0], erf.output[0]])


HANDLERS: Handlers = {"Erfc": (_spell_out_erfc, [])}


class _Complaints(logging.Handler):
    """Keeps tf2onnx's errors, to be told with the failure, instead of printing them."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.texts.append(record.getMessage())

    def __enter__(self) -> "_Complaints":
        self._logger = logging.getLogger("tf2onnx")
        self._before = self._logger.propagate, self._logger.handlers, self._logger.level
        self._logger.propagate, self._logger.handlers = False, [self]
        self._tensorflow = logging.getLogger("tensorflow")  # warns of what tf2onnx calls
        self._spoke_from = self._tensorflow.level
        self._tensorflow.setLevel(logging.ERROR)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.propagate, self._logger.handlers, level = self._before
        self._logger.setLevel(level)
        self._tensorflow.setLevel(self._spoke_from)
