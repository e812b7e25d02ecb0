"""Converts a model to an ONNX model in memory, and makes the report on it.

trace        TensorFlow records the model's graph, with a stub for each recurrent layer
convert      tf2onnx converts the graph to ONNX; the stubs pass through
replace      each stub becomes an LSTM, GRU, RNN or Scan node
clean up     readable names, guards against empty inputs, no unread constants
check        the graph is valid ONNX, and its inputs are the model's
"""

import math
import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_gated.cell import GatedCell
from keras_gated.engine.run import run_by
from keras_gated.onnx.errors import require
from keras_gated.onnx.graph import large_weights
from keras_gated.onnx.graph.cleanup import check_graph, clean_up, count_operators
from keras_gated.onnx.graph.large_weights import put_weights_in
from keras_gated.onnx.graph.stored_once import store_once
from keras_gated.onnx.graph.stubs import replace_stubs
from keras_gated.onnx.graph.tf2onnx import convert_function
from keras_gated.onnx.graph.writer import rename_tensors, tensors_read
from keras_gated.onnx.model_file import size_on_disk
from keras_gated.onnx.report import ExportReport, LayerReport
from keras_gated.onnx.tracing.layer_places import UniqueNames, places_within, valid_name
from keras_gated.onnx.tracing.model_io import Interface, output_axes, output_names
from keras_gated.onnx.tracing.patched_layers import patched_layers
from keras_gated.onnx.tracing.tracer import Tracer


@dataclass(frozen=True)
class NamedWeight:
    """A weight of the model, and its readable name."""

    name: str
    variable: Any

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.variable.shape) * np.dtype(self.variable.dtype).itemsize

    def values(self) -> np.ndarray:
        """Returns a copy."""
        return ops.convert_to_numpy(self.variable)


class ModelCall:
    """A model as a function from a flat list of tensors to a dictionary of tensors.

    An ONNX file has flat, named inputs and outputs; a Keras model may take and return nested
    structures. This class converts between the two.

    Args:
        model: a built model.
        interface: the model's inputs.

    Attributes:
        ports: the file's inputs.
        names: of the model's outputs; empty before the first call.
    """

    def __init__(self, model: keras.Model, interface: Interface):
        self.model, self.interface = model, interface
        self.ports = interface.ports
        self.names: list[str] = []

    def __call__(self, *tensors) -> dict:
        outputs = self.model(self.interface.pack(tensors), training=False)
        self.names = output_names(self.model, outputs, self.interface)
        return dict(zip(self.names, tree.flatten(outputs), strict=True))

    def wrap_loop(self, layer: keras.Layer, loop: Callable) -> Callable:
        """Returns the loop over time that a recurrent layer is to use during the trace."""
        return loop

    def wrap_call(self, layer: keras.Layer, call: Callable | None) -> Callable | None:
        """Returns the function that is to stand for the call of a layer that is not recurrent.

        Args:
            layer: the layer.
            call: what stands for it otherwise; None if that is the layer's own.
        """
        return call

    def input_axes(self) -> dict[str, list]:
        """Returns, for each input, a name or a size of each axis."""
        return {port.name: self.interface.axes(port) for port in self.interface.ports}

    def output_axes(self) -> dict[str, list]:
        """Returns, for each output, a name or a size of each axis, or None if it is unknown."""
        axes = output_axes(self.model, self.interface)
        return dict(zip(self.names, axes or [[]] * len(self.names), strict=True))


def trace(call: ModelCall, tracer: Tracer) -> tuple[Any, list, dict[str, NamedWeight]]:
    """Lets TensorFlow record the graph of a call.

    Args:
        call: what is traced.
        tracer: runs the recurrent layers during the trace: it puts a stub in place of each.

    Returns:
        The tf.function, its signature, and {input: weight} for the large weights, which are inputs
        of the graph behind those of the model.
    """
    (tf,) = require("tensorflow")
    weights: dict[str, NamedWeight] = {}

    def call_model(*tensors):
        inputs, values = tensors[: len(call.ports)], tensors[len(call.ports) :]
        variables = [weight.variable for weight in weights.values()]
        pairs = zip(variables, values, strict=True)
        # In the scope a layer may not do all that it may do otherwise, so only if it is needed.
        scope = keras.StatelessScope(pairs) if values else nullcontext()
        with run_by(tracer), scope:
            outputs = call(*inputs)
        return {name: tf.identity(tensor, name="y") for name, tensor in outputs.items()}

    signature = [tf.TensorSpec(p.shape, p.dtype, name=p.name) for p in call.ports]
    with patched_layers(call.model, tracer, call.wrap_loop, call.wrap_call):
        weights |= _large_weights(call.model, tracer)
        for name, weight in weights.items():
            variable = weight.variable
            signature.append(tf.TensorSpec(variable.shape, variable.dtype, name=name))
        function = tf.function(call_model, input_signature=signature, autograph=False)
        function.get_concrete_function()
    return function, signature, weights


def _large_weights(model: keras.Model, tracer: Tracer) -> dict[str, NamedWeight]:
    """Returns {name of an input: weight} for the large weights of a model.

    A cell of Keras runs as a gated cell with weights of its own. They get the names of Keras's.
    """
    weights = _named_weights(model)
    for place in tracer.places:
        pairs = zip(place.cell.weights, place.weights.weights, strict=True)
        weights |= {id(own): NamedWeight(weights[id(w)].name, own) for own, w in pairs}
    large = [weight for weight in weights.values() if weight.size >= large_weights.LARGE]
    return {f"keras_gated_weight_{k}": weight for k, weight in enumerate(large)}


def convert_call(call: ModelCall, tracer: Tracer) -> Any:
    """Converts a call to an onnx.ModelProto, complete and valid.

    Raises:
        ExportError: if the model cannot be exported.
    """
    _build_if_needed(call)
    function, signature, weights = trace(call, tracer)
    tracer.check_lowering()
    proto, errors = convert_function(function, signature, tracer.opset, tracer.shapes)
    replace_stubs(proto.graph, tracer.calls)
    weights = _rename_inputs(proto.graph, weights)
    inputs = call.input_axes()
    clean_up(
        proto,
        valid_name(call.model.name),
        weights=_small_weights(call.model),
        inputs=inputs,
        outputs=call.output_axes(),
        guard=any(record.choice.operator == "Loop" for record in tracer.records.values()),
    )
    check_graph(proto, [*inputs, *weights], errors)
    put_weights_in(proto, {name: weight.values for name, weight in weights.items()})
    if tracer.compact:
        store_once(proto)
    return proto


def _rename_inputs(graph: Any, weights: dict[str, NamedWeight]) -> dict[str, NamedWeight]:
    """Gives the inputs that stand for large weights the names of these; returns {name: weight}."""
    unique, names = UniqueNames(), {}
    for tensor in tensors_read(graph):
        unique(tensor)
    for name, weight in weights.items():
        names[name] = unique(weight.name)
    rename_tensors(graph, names)
    return {names[name]: weight for name, weight in weights.items()}


def _build_if_needed(call: ModelCall) -> None:
    """Calls a model with symbolic tensors if some of its layers have no weights yet.

    The tracer looks for recurrent layers and their weights before it traces.
    """
    if all(layer.built for layer in places_within(call.model)):
        return
    tensors = [keras.KerasTensor(port.shape, port.dtype) for port in call.interface.ports]
    with suppress(Exception):  # whatever is wrong with the model, the trace raises it
        call.model(call.interface.pack(tensors), training=False)


def make_report(file: Path, proto: Any, call: ModelCall, tracer: Tracer) -> ExportReport:
    """Returns the report on a converted call.

    Args:
        file: where it was written.
        proto: the onnx.ModelProto that was written to it.
        call, tracer: what it was converted from.
    """
    return ExportReport(
        path=os.fspath(file),
        opset=tracer.opset,
        layers=_layer_reports(call.model, tracer),
        operators=count_operators(proto.graph),
        inputs=tuple(port.name for port in proto.graph.input),
        outputs=tuple(port.name for port in proto.graph.output),
        size=size_on_disk(file),
    )


def _named_weights(model: keras.Model) -> dict[int, NamedWeight]:
    """Returns {id: weight with a readable name, e.g. "dense/kernel"}."""
    weights = {}
    # Inner layers come later: a weight gets the name of the innermost layer that holds it.
    for layer, place in places_within(model).items():
        weights |= {id(w): NamedWeight(f"{place}/{w.name}", w) for w in layer.weights}
    return weights


def _small_weights(model: keras.Model) -> dict[str, Any]:
    """Returns the weights that are not large, as arrays by readable name.

    A Scan may read the weight of one gate, so those have names as well.
    """
    of_gates = {}
    for layer, place in places_within(model).items():
        if isinstance(layer, GatedCell) and layer.built:
            of_gates |= _gate_weights(layer, place)
    weights = [w for w in _named_weights(model).values() if w.size < large_weights.LARGE]
    return of_gates | {weight.name: weight.values() for weight in weights}


def _gate_weights(cell: GatedCell, place: str) -> dict:
    """Returns the part of each weight that belongs to one gate.

    A weight of a single block is left out: it has its name already. Names are, for example,
    "lstm/lstm_cell/kernel/forget".
    """
    blocks = cell.block_weights()
    arrays: dict = {}
    for name, weights in blocks.items():
        for key, weight in weights.items():
            if sum(key in others for others in blocks.values()) > 1:
                arrays[f"{place}/{key}/{name}"] = ops.convert_to_numpy(weight)
    return arrays


def _layer_reports(model: keras.Model, tracer: Tracer) -> tuple[LayerReport, ...]:
    """Returns a report for each recurrent layer or cell of a stack, in the model's order."""
    order = {layer: k for k, layer in enumerate(places_within(model))}
    records = [*tracer.records.values(), *tracer.untraced()]
    records.sort(key=lambda record: (order.get(record.place.layer, len(order)), record.name))
    return tuple(
        LayerReport(
            name=record.name,
            operator=record.choice.operator,
            reason=record.choice.reason,
            weights_in_file=record.size,
            trainable_weights=_count_trainable(record.place.weights),
        )
        for record in records
    )


def _count_trainable(layer: keras.Layer) -> int:
    return sum(math.prod(weight.shape) for weight in layer.trainable_weights)
