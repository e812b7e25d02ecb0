"""The only file that calls tf2onnx: it converts a recorded TensorFlow graph to ONNX.

tf2onnx does not know the stubs; a handler of ours passes them through, as nodes of type `STUB`. If
tf2onnx cannot convert an operation, it logs an error, leaves the operation in the graph and goes
on. So its errors are collected here, and `cleanup.check_graph` raises with them if the result is
not valid ONNX.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from keras_gated.onnx.errors import require

STUB, TENSORFLOW_STUB = "KerasGatedStub", "PyFuncStateless"
Handlers = dict[str, tuple[Callable, list]]  # {TensorFlow operation: (handler, its arguments)}
OPSETS = range(13, 19)  # from 13 on, axes are inputs; tf2onnx 1.17 knows none above 18


def convert_function(
    function: Any, signature: list, opset: int, shapes: Mapping[str, list]
) -> tuple[Any, list[str]]:
    """Converts a tf.function to ONNX. Stubs stay in it, as nodes of type `STUB`.

    Args:
        function: a tf.function that returns a dictionary of tensors by output name.
        signature: one tf.TensorSpec for each input, with its name.
        opset: int, version of the ONNX operators.
        shapes: {token: shapes of the stub's outputs}, -1 for open axes.

    Returns:
        The onnx.ModelProto, and the errors that tf2onnx logged.
    """
    (tf2onnx,) = require("tf2onnx")
    handlers: Handlers = {TENSORFLOW_STUB: (partial(_keep_stub, shapes), [])}
    with _ErrorLog() as log:
        model, _ = tf2onnx.convert.from_function(
            function, signature, opset=opset, custom_op_handlers=handlers | HANDLERS
        )
    return model, log.errors


def convert_graph(graph: Any, inputs: Sequence[str], outputs: Sequence[str], opset: int) -> Any:
    """Converts a tf.Graph, the body of a Scan, to an onnx.GraphProto.

    Operations without an ONNX form stay in it; `cleanup.check_graph` finds them later.

    Args:
        graph: a tf.Graph.
        inputs, outputs: names of its tensors at which the converted part begins and ends.
        opset: int, version of the ONNX operators.
    """
    (tf2onnx,) = require("tf2onnx")
    with _ErrorLog():
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
    """Handles a stub for tf2onnx: renames the operation and adds the shapes of its outputs."""
    node.type = STUB
    token = node.get_attr_value("token")
    token = token.decode() if isinstance(token, bytes) else token
    # TensorFlow infers no shapes for this operation, and tf2onnx needs them for what comes after.
    for output, shape in zip(node.output, shapes.get(token, []), strict=False):
        graph.set_shape(output, shape)


def _replace_erfc(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles Erfc for tf2onnx, which cannot: 1 - Erf(x). Every exact GELU has it."""
    (tf2onnx,) = require("tf2onnx")
    dtype = tf2onnx.utils.map_onnx_to_numpy_type(graph.get_dtype(node.input[0]))
    one = graph.make_const(f"{name}/one", np.array(1, dtype))
    erf = graph.make_node("Erf", [node.input[0]], name=f"{name}/erf")
    node.type = "Sub"
    graph.replace_inputs(node, [one.output[0], erf.output[0]])


def _replace_reverse(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles ReverseV2 for tf2onnx: one Slice with steps of -1, not a ReverseSequence."""
    axes = np.atleast_1d(node.inputs[1].get_tensor_value(as_list=False)).astype(np.int64)
    # From the last element to before the first.
    ends = {"starts": -1, "ends": -(2**31), "axes": axes, "steps": -1}
    made = [graph.make_const(f"{name}/{k}", np.full_like(axes, v)) for k, v in ends.items()]
    node.type = "Slice"
    graph.replace_inputs(node, [node.input[0], *(constant.output[0] for constant in made)])


HANDLERS: Handlers = {"Erfc": (_replace_erfc, []), "ReverseV2": (_replace_reverse, [])}


class _ErrorLog(logging.Handler):
    """Collects tf2onnx's errors instead of printing them, for as long as the context is open.

    Attributes:
        errors: their texts.
    """

    def __init__(self):
        super().__init__(logging.WARNING)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.errors.append(record.getMessage())

    def __enter__(self) -> "_ErrorLog":
        self._logger = logging.getLogger("tf2onnx")
        self._before = self._logger.propagate, self._logger.handlers, self._logger.level
        self._logger.propagate, self._logger.handlers = False, [self]
        # TensorFlow warns that functions which tf2onnx calls are deprecated.
        self._tensorflow = logging.getLogger("tensorflow")
        self._tensorflow_level = self._tensorflow.level
        self._tensorflow.setLevel(logging.ERROR)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.propagate, self._logger.handlers, level = self._before
        self._logger.setLevel(level)
        self._tensorflow.setLevel(self._tensorflow_level)
