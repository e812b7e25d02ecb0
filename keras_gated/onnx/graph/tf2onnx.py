"""The only file that calls tf2onnx: it converts a recorded TensorFlow graph to ONNX.

tf2onnx does not know the stubs; a handler of ours passes them through, as nodes of type `STUB`. If
tf2onnx cannot convert an operation, it logs an error, leaves the operation in the graph and goes
on. So its errors are collected here, and `cleanup.check_graph` raises with them if the result is
not valid ONNX.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import RLock
from typing import Any

import numpy as np

from keras_gated.onnx.errors import ExportError, require

_one_at_a_time = RLock()  # the variable is one for all threads
STUB, TENSORFLOW_STUB = "KerasGatedStub", "PyFuncStateless"
Handlers = dict[str, tuple[Callable, list]]  # {TensorFlow operation: (handler, its arguments)}
FLOAT, INT32 = 1, 6  # onnx.TensorProto
NO_COPIES = "TF2ONNX_CATCH_ERRORS"  # an environment variable; its value is not read
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
    concrete = function.get_concrete_function(*signature)
    _check_for_loss(concrete.graph)
    handlers: Handlers = {TENSORFLOW_STUB: (partial(_keep_stub, shapes), [])}
    with _ErrorLog() as log:
        try:
            model = _converted(
                tf2onnx.convert.from_function,
                function,
                signature,
                opset=opset,
                custom_op_handlers=handlers | HANDLERS,
            )
        except Exception as error:  # TensorFlow and tf2onnx may raise anything
            reason = (str(error).splitlines() or [""])[0][:300]
            raise ExportError(
                "Argument `model` must be a model whose graph the converter tf2onnx understands. "
                f"It stopped with {type(error).__name__}: {reason} Export parts of the model, "
                "keras.Model(model.inputs, model.get_layer(NAME).output), to find the layer."
            ) from error
    _store_constants(model.graph, concrete)
    return model, log.errors


def _converted(convert: Callable, *arguments: Any, **options: Any) -> Any:
    """Returns the onnx.ModelProto of a conversion by tf2onnx.

    tf2onnx copies the whole graph before each optimisation, to go on without one that fails: a
    fifth of the time of an export. So it first runs without copies, which `NO_COPIES` tells it.
    """
    with _one_at_a_time:
        before = {NO_COPIES: os.environ[NO_COPIES]} if NO_COPIES in os.environ else {}
        os.environ[NO_COPIES] = "false"
        try:
            return convert(*arguments, **options)[0]
        except Exception:  # TensorFlow and tf2onnx may raise anything
            os.environ.pop(NO_COPIES)
            return convert(*arguments, **options)[0]
        finally:
            os.environ.pop(NO_COPIES, None)
            os.environ.update(before)


def _check_for_loss(graph: Any) -> None:
    """Raises an ExportError if a graph computes the CTC loss, which has no ONNX form."""
    names = sorted(op.name for op in graph.get_operations() if "ctc_loss" in op.name.lower())
    if names:
        raise ExportError(
            "Argument `model` must not compute a CTC loss: ONNX has none, and a file that "
            f"recognises something needs no labels. Received: {names[0]!r} in the model's graph. "
            "Export the part before it: keras.Model(x, model.get_layer(NAME).output), where x is "
            "the input without the labels and NAME the layer whose output the loss reads."
        )


def _store_constants(graph: Any, concrete: Any) -> None:
    """Makes constants of the inputs that tf2onnx made from tensors outside of the graph.

    Such a tensor is, for example, the mean that a Normalization layer holds.

    Args:
        graph: the onnx.GraphProto.
        concrete: the tf.ConcreteFunction that it was converted from.
    """
    onnx, tf = require("onnx", "tensorflow")
    outside = concrete.captured_inputs
    inside = concrete.inputs[len(concrete.inputs) - len(outside) :]
    values = {
        placeholder.name: tensor.numpy()
        for placeholder, tensor in zip(inside, outside, strict=True)
        if tensor.dtype != tf.resource and hasattr(tensor, "numpy")
    }
    for port in [port for port in graph.input if port.name in values]:
        graph.initializer.append(onnx.numpy_helper.from_array(values[port.name], port.name))
        graph.input.remove(port)


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
        model = _converted(
            tf2onnx.convert.from_graph_def,
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


def _replace_reverse(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles ReverseV2 for tf2onnx: one Slice with steps of -1, not a ReverseSequence."""
    axes = np.atleast_1d(node.inputs[1].get_tensor_value(as_list=False)).astype(np.int64)
    # From the last element to before the first.
    ends = {"starts": -1, "ends": -(2**31), "axes": axes, "steps": -1}
    made = [graph.make_const(f"{name}/{k}", np.full_like(axes, v)) for k, v in ends.items()]
    node.type = "Slice"
    graph.replace_inputs(node, [node.input[0], *(constant.output[0] for constant in made)])


class _Replacement:
    """Replaces a node by several; call it to add one of them, and `finish` for the last.

    Args:
        graph, node: tf2onnx's graph and the node.
    """

    def __init__(self, graph: Any, node: Any):
        (tf2onnx,) = require("tf2onnx")
        self._graph, self._node = graph, node
        self.x = node.input[0]
        self.dtype = tf2onnx.utils.map_onnx_to_numpy_type(graph.get_dtype(self.x))

    def constant(self, value: Any, dtype: Any = None) -> str:
        (tf2onnx,) = require("tf2onnx")
        name = tf2onnx.utils.make_name(f"{self._node.name}/constant")
        return self._graph.make_const(name, np.array(value, dtype or self.dtype)).output[0]

    def __call__(self, operator: str, *inputs: str, **attributes) -> str:
        (tf2onnx,) = require("tf2onnx")
        name = tf2onnx.utils.make_name(f"{self._node.name}/{operator}")
        return self._graph.make_node(operator, list(inputs), attributes, name=name).output[0]

    def finish(self, operator: str, *inputs: str, **attributes) -> None:
        node, graph = self._node, self._graph
        shapes, dtypes = node.output_shapes, node.output_dtypes
        graph.remove_node(node.name)
        kinds = {"name": node.name, "outputs": node.output, "shapes": shapes, "dtypes": dtypes}
        graph.make_node(operator, list(inputs), attributes, **kinds)


def _replace_erfc(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles Erfc for tf2onnx, which cannot: 1 - Erf(x). Every exact GELU has it."""
    make = _Replacement(graph, node)
    make.finish("Sub", make.constant(1), make("Erf", make.x))


def _replace_log1p(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles Log1p: log(u) + (x - (u - 1)), where u = 1 + x is rounded; exact for a small x."""
    make = _Replacement(graph, node)
    x, one = make.x, make.constant(1)
    u = make("Add", x, one)
    small = make("Less", make("Abs", x), make.constant(0.5))
    rounded = make("Sub", x, make("Sub", u, one))
    make.finish("Add", make("Log", u), make("Where", small, rounded, make.constant(0)))


def _replace_expm1(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles Expm1: tanh(x / 2) * (exp(x) + 1), which is exact for a small x."""
    make = _Replacement(graph, node)
    half = make("Tanh", make("Mul", make.x, make.constant(0.5)))
    make.finish("Mul", half, make("Add", make("Exp", make.x), make.constant(1)))


def _replace_bucketize(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles Bucketize: how many boundaries are not above x."""
    make = _Replacement(graph, node)
    boundaries = make.constant(node.get_attr_value("boundaries"), np.float32)
    x = make("Unsqueeze", make("Cast", make.x, to=FLOAT), make.constant([-1], np.int64))
    above = make("Cast", make("Less", x, boundaries), to=INT32)
    count = make("Sub", make.constant(1, np.int32), above)
    make.finish("ReduceSum", count, make.constant([-1], np.int64), keepdims=0)


def _replace_sign_bit(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles BitwiseAnd where it takes the sign bit of a float: x < 0 or 1 / x < 0.

    keras.ops.argmax and argmin ask for it, since 0 is larger than -0 there. Other nodes stay.
    """
    bits, mask = node.inputs
    if bits.type != "Bitcast" or not mask.is_const() or mask.get_tensor_value() != -(2**31):
        return
    make = _Replacement(graph, bits)
    x, zero = make.x, make.constant(0)
    negative = make("Or", make("Less", x, zero), make("Less", make("Reciprocal", x), zero))
    lowest = make.constant(-(2**31), np.int32)
    last = _Replacement(graph, node)
    last.finish("Where", negative, lowest, last.constant(0, np.int32))


def _replace_part_of_rfft(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles Real and Imag of an RFFT: a product with cosines or sines. Others stay."""
    rfft = node.inputs[0]
    size = (graph.get_shape(rfft.input[0]) or [-1])[-1] if rfft.type == "RFFT" else -1
    length = rfft.inputs[1].get_tensor_value()[0] if size > 0 and rfft.inputs[1].is_const() else 0
    if not 0 < size <= length:  # a shorter frame is filled up with zeros
        return
    angles = 2 * np.pi / length * np.outer(np.arange(size), np.arange(length // 2 + 1))
    make, last = _Replacement(graph, rfft), _Replacement(graph, node)
    weights = np.cos(angles) if node.type == "Real" else -np.sin(angles)
    last.finish("MatMul", make.x, last.constant(weights, make.dtype))


def _replace_select(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles SelectV2: Where. tf2onnx multiplies by 0 and 1, which lets a NaN through."""
    node.type = "Where"


def _replace_floor_mod(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles FloorMod: ONNX's Mod of integers is rounded down, unlike its Div."""
    make, (x, y) = _Replacement(graph, node), node.input
    if np.issubdtype(make.dtype, np.integer):
        make.finish("Mod", x, y)
    else:
        make.finish("Sub", x, make("Mul", make("Floor", make("Div", x, y)), y))


def _replace_floor_div(graph: Any, node: Any, name: str, _: list) -> None:
    """Handles FloorDiv: ONNX's Div of integers is rounded towards 0."""
    make, (x, y) = _Replacement(graph, node), node.input
    if np.issubdtype(make.dtype, np.integer):
        make.finish("Div", make("Sub", x, make("Mod", x, y)), y)
    else:
        make.finish("Floor", make("Div", x, y))


def _keep(graph: Any, node: Any, name: str, _: list) -> None:
    """Keeps a node that is unread once those that read it are replaced."""


HANDLERS: Handlers = {
    operation: (handler, [])
    for operation, handler in {
        "Bitcast": _keep,
        "BitwiseAnd": _replace_sign_bit,
        "Bucketize": _replace_bucketize,
        "Erfc": _replace_erfc,
        "Expm1": _replace_expm1,
        "FloorDiv": _replace_floor_div,
        "FloorMod": _replace_floor_mod,
        "Imag": _replace_part_of_rfft,
        "Log1p": _replace_log1p,
        "RFFT": _keep,
        "Real": _replace_part_of_rfft,
        "ReverseV2": _replace_reverse,
        "SelectV2": _replace_select,
    }.items()
}


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
