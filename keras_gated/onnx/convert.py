"""A model traced, converted and tidied: the ONNX model in memory, and the report on it."""

import math
import os
from contextlib import suppress
from typing import Any

import keras
from keras import ops, tree

from keras_gated.cell import GatedCell
from keras_gated.engine.run import run_by
from keras_gated.onnx.errors import require
from keras_gated.onnx.graph.cleanup import check_graph, count_operators, tidy
from keras_gated.onnx.graph.stubs import place
from keras_gated.onnx.graph.tf2onnx import convert
from keras_gated.onnx.report import ExportReport, LayerReport
from keras_gated.onnx.tracing.keras_layers import patched_layers
from keras_gated.onnx.tracing.model_io import Interface, output_axes, output_names
from keras_gated.onnx.tracing.model_layers import places_within
from keras_gated.onnx.tracing.tracer import Tracer


class ModelCall:
    """A model as a function from flat tensors to named ones, as the file has it.

    Args:
        model: a built model.
        interface: its inputs.

    Attributes:
        ports: the inputs of the file.
        names: of the model's outputs, once it was called.
    """

    def __init__(self, model: keras.Model, interface: Interface):
        self.model, self.interface = model, interface
        self.ports = interface.ports
        self.names: list[str] = []

    def __call__(self, *tensors) -> dict:
        outputs = self.model(self.interface.pack(tensors), training=False)
        self.names = output_names(self.model, outputs, self.interface)
        return dict(zip(self.names, tree.flatten(outputs), strict=True))

    def input_axes(self) -> dict[str, list]:
        """Returns a name or size of each axis of each input, in order."""
        return {port.name: self.interface.axes(port) for port in self.interface.ports}

    def output_axes(self) -> dict[str, list]:
        """Returns the same of each output; None for an axis of which nothing is known."""
        axes = output_axes(self.model, self.interface)
        return dict(zip(self.names, axes or [[]] * len(self.names), strict=True))


def traced(call: ModelCall, tracer: Tracer) -> tuple[Any, list]:
    """Returns a call as a tf.function that has been traced, and its signature."""
    (tf,) = require("tensorflow")

    def called(*tensors):
        with run_by(tracer):
            outputs = call(*tensors)
        return {name: tf.identity(tensor, name="y") for name, tensor in outputs.items()}

    signature = [tf.TensorSpec(p.shape, p.dtype, name=p.name) for p in call.ports]
    function = tf.function(called, input_signature=signature, autograph=False)
    with patched_layers(call.model, tracer):
        function.get_concrete_function()
    return function, signature


def _build(call: ModelCall) -> None:
    """Builds what a model that was never called has not built, so that its layers are known."""
    if all(layer.built for layer in places_within(call.model)):
        return
    tensors = [keras.KerasTensor(port.shape, port.dtype) for port in call.interface.ports]
    with suppress(Exception):  # the trace will tell what is wrong
        call.model(call.interface.pack(tensors), training=False)


def convert_call(call: ModelCall, tracer: Tracer) -> Any:
    """Returns a call as an onnx.ModelProto, whole and valid.

    Raises:
        ExportError: if it cannot leave as ONNX.
    """
    _build(call)
    function, signature = traced(call, tracer)
    tracer.check()
    proto, complaints = convert(function, signature, tracer.opset, tracer.shapes)
    place(proto.graph, tracer.calls)
    inputs = call.input_axes()
    tidy(
        proto,
        call.model.name,
        weights=_weights(call.model),
        inputs=inputs,
        outputs=call.output_axes(),
        guard=any(left.choice.operator == "Loop" for left in tracer.left.values()),
    )
    check_graph(proto, list(inputs), complaints)
    return proto


def report_on(path: str | os.PathLike, proto: Any, call: ModelCall, tracer: Tracer) -> ExportReport:
    """Returns the report on a converted call that goes to `path`."""
    return ExportReport(
        path=os.fspath(path),
        opset=tracer.opset,
        layers=_layers(call.model, tracer),
        operators=count_operators(proto.graph),
        inputs=tuple(port.name for port in proto.graph.input),
        outputs=tuple(port.name for port in proto.graph.output),
        size=proto.ByteSize(),
    )


def _weights(model: keras.Model) -> dict:
    """The model's weights by readable name, e.g. "dense/kernel", and those of a gate alone."""
    names, parts = {}, {}
    for layer, at in places_within(model).items():  # a layer comes after what holds it
        names |= {id(w): (f"{at}/{w.name}", w) for w in layer.weights}
        if isinstance(layer, GatedCell) and layer.built:
            parts |= _parts(layer, at)
    return parts | {name: ops.convert_to_numpy(weight) for name, weight in names.values()}


def _parts(cell: GatedCell, at: str) -> dict:
    """The weights of each gate, e.g. "lstm/lstm_cell/kernel/forget", where there are several."""
    blocks = cell.block_weights()
    found: dict = {}
    for name, weights in blocks.items():
        for key, weight in weights.items():
            if sum(key in others for others in blocks.values()) > 1:
                found[f"{at}/{key}/{name}"] = ops.convert_to_numpy(weight)
    return found


def _layers(model: keras.Model, tracer: Tracer) -> tuple[LayerReport, ...]:
    """A row for each cell or layer of another kind, in the order of the model's layers."""
    places = {layer: k for k, layer in enumerate(places_within(model))}
    rows = [*tracer.left.values(), *tracer.untraced()]
    rows.sort(key=lambda left: (places.get(left.layer, len(places)), left.name))
    return tuple(
        LayerReport(
            left.name, left.choice.operator, left.choice.reason, left.size, _trainable(left.weights)
        )
        for left in rows
    )


def _trainable(layer: keras.Layer) -> int:
    return sum(math.prod(weight.shape) for weight in layer.trainable_weights)
