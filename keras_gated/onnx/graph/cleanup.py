"""Finishes a converted graph (guards, readable names, order) and checks that it is valid."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.graph.empty_input_guards import drop_needless_guards, guard_inputs
from keras_gated.onnx.graph.stored_once import PREFIX
from keras_gated.onnx.graph.writer import (
    all_nodes,
    drop_unread_constants,
    inner_graphs,
    rename_tensors,
    tensors_read,
)

INT32, INT64 = 6, 7  # onnx.TensorProto


def count_operators(graph: Any) -> dict[str, int]:
    """Returns how many nodes a graph has of each operator, graphs inside included.

    Without those that are computed when the file is loaded.
    """
    counts = Counter(n.op_type for n in all_nodes(graph) if not n.name.startswith(PREFIX))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def clean_up(
    model: Any,
    name: str,
    weights: Mapping[str, np.ndarray],
    inputs: Mapping,
    outputs: Mapping,
    guard: bool,
) -> None:
    """Gives a converted model its guards, names and order, in place.

    Args:
        model: an onnx.ModelProto.
        name: of the Keras model. The converter puts it in front of all names.
        weights: {readable name: array}, the model's weights.
        inputs: {input: a name or size of each axis}, in the wanted order.
        outputs: the same for each output; None for an axis of which nothing is known.
        guard: whether to guard the inputs against empty ones. They are guarded anyway if there is
            a Loop.
    """
    graph = model.graph
    drop_double_reversals(graph)
    if guard or any(node.op_type == "Loop" for node in all_nodes(graph)):
        guard_inputs(graph, inputs)
    drop_needless_guards(graph)
    drop_unread_constants(graph)
    _name_weights(graph, weights)
    _strip_model_name(graph, name)
    _order_ports(graph.input, inputs)
    _order_ports(graph.output, outputs)
    graph.name = name
    model.producer_name, model.producer_version = "keras_gated", version("keras-gated")


def drop_double_reversals(graph: Any, outer: Mapping[str, list] | None = None) -> None:
    """Removes two nodes in a row that reverse a tensor along the same axes, in place.

    A layer that goes backwards returns its outputs from the last time step to the first, and a
    Bidirectional reverses them once more.

    Args:
        graph: an onnx.GraphProto.
        outer: the integer constants of the graphs around it.
    """
    constants = {**(outer or {}), **_integers(graph)}
    for inner in inner_graphs(graph):
        drop_double_reversals(inner, constants)
    reversals: dict[str, tuple] = {}  # {output: (axes, input)}
    for node in graph.node:
        if (axes := _reversed_axes(node, constants)) is not None:
            reversals[node.output[0]] = (axes, node.input[0])
    sources = {
        output: reversals[tensor][1]
        for output, (axes, tensor) in reversals.items()
        if reversals.get(tensor, ("",))[0] == axes
    }
    for node in graph.node:
        if node.output and node.output[0] in sources:
            node.op_type = "Identity"  # its output may be the graph's
            del node.input[1:]
            node.input[0] = sources[node.output[0]]
        for k, tensor in enumerate(node.input):
            node.input[k] = sources.get(tensor, tensor)
    _drop_unread(graph, {*reversals})


def _integers(graph: Any) -> dict[str, list]:
    """The integer constants of a graph, by name."""
    (onnx,) = require("onnx")
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    to_array = onnx.numpy_helper.to_array
    whole = {name: t for name, t in tensors.items() if t.data_type in (INT32, INT64)}
    return {name: to_array(t).ravel().tolist() for name, t in whole.items()}


def _reversed_axes(node: Any, constants: Mapping[str, list]) -> list | None:
    """The axes along which a node reverses its input; None if it does something else."""
    if node.op_type != "Slice" or len(node.input) != 5:
        return None
    start, end, axes, step = (constants.get(name) for name in node.input[1:])
    if start is None or end is None or axes is None or step is None:
        return None
    all_of_it = all(e <= -(2**31) for e in end) and all(s == -1 for s in (*start, *step))
    return axes if all_of_it else None


def _drop_unread(graph: Any, outputs: set[str]) -> None:
    """Removes the nodes with these outputs that nothing reads."""
    for node in reversed(list(graph.node)):
        if node.output and node.output[0] in outputs and node.output[0] not in tensors_read(graph):
            graph.node.remove(node)


def check_graph(model: Any, inputs: Sequence[str], errors: Sequence[str]) -> None:
    """Raises an ExportError unless a model is valid ONNX and has the Keras model's inputs only.

    Args:
        model: an onnx.ModelProto.
        inputs: names of the inputs that it should have.
        errors: what tf2onnx logged as errors. They are part of the message if the check fails.
    """
    (onnx,) = require("onnx")
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    unknown = sorted(
        {
            f"{node.op_type} (node {node.name!r})"
            for node in all_nodes(model.graph)
            if not _is_defined(onnx, node, opset)
        }
    )
    log = "".join(f"\n  tf2onnx: {text.splitlines()[0][:200]}" for text in errors if text)
    if unknown:
        raise ExportError(
            f"The model uses operations that have no ONNX form: {', '.join(unknown)}. "
            f"Replace them in the model, or move them behind the exported part.{log}"
        )
    extra = [port.name for port in model.graph.input if port.name not in inputs]
    if extra:
        raise ExportError(
            f"The traced graph has inputs that are not the model's: {extra}. The model uses a "
            "tensor that was made outside of it (e.g. a tf.constant). Make it inside call(), or "
            "hold it as a NumPy array or as a weight."
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The converted graph is not valid ONNX: {error}{log}") from error


def _is_defined(onnx: Any, node: Any, opset: int) -> bool:
    """Whether the ONNX standard defines a node's operator.

    It does not if tf2onnx could not convert the operation: then TensorFlow's is in the graph.
    """
    domain = "" if node.domain == "ai.onnx" else node.domain
    if domain not in ("", "ai.onnx.ml"):
        return False
    version = opset if domain == "" else 2
    try:
        onnx.defs.get_schema(node.op_type, max_inclusive_version=version, domain=domain)
    except onnx.defs.SchemaError:
        return False
    return True


def _name_weights(graph: Any, weights: Mapping[str, np.ndarray]) -> None:
    """Gives a constant that equals exactly one weight of the model the name of this weight.

    tf2onnx names constants after operations of the graph and does not know which weight one was.
    Only the numbers are left to recognise it by.
    """
    (onnx,) = require("onnx")
    taken = {tensor.name for tensor in graph.initializer}
    names: dict[str, str] = {}
    for tensor in graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.size < 2 or (array == array.flat[0]).all():
            continue  # a single number, or all the same: many things may have these values
        equal = [n for n, w in weights.items() if w.shape == array.shape and (w == array).all()]
        if len(equal) == 1 and equal[0] not in taken:
            taken.add(equal[0])
            names[tensor.name] = equal[0]
    rename_tensors(graph, names)


def _strip_model_name(graph: Any, name: str) -> None:
    """Removes the model's name from the beginning of names, if they stay unique."""
    prefix = re.compile(rf"^{re.escape(name)}(_\d+)*/(?=.)")
    taken = {tensor for node in all_nodes(graph) for tensor in (*node.input, *node.output)}
    ports = {port.name for port in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    for tensor in sorted(taken - ports):
        short = prefix.sub("", tensor)
        if short not in taken:
            names[tensor] = short
            taken.add(short)
    rename_tensors(graph, names)
    node_names = {node.name for node in all_nodes(graph)}
    for node in all_nodes(graph):
        if (short := prefix.sub("", node.name)) not in node_names:
            node_names.add(short)
            node.name = short


def _order_ports(ports: Any, axes: Mapping) -> None:
    """Puts inputs or outputs in the order of `axes`, and names their axes."""
    by_name = {port.name: port for port in ports}
    ordered = [by_name[name] for name in axes if name in by_name]
    others = [port for name, port in by_name.items() if name not in axes]
    for port in ordered:
        _name_axes(port, axes[port.name])
    # Copies, for protobuf may invalidate messages that are deleted from a field.
    copies = [type(port).FromString(port.SerializeToString()) for port in ordered + others]
    del ports[:]
    ports.extend(copies)


def _name_axes(port: Any, axes: Sequence[str | int | None]) -> None:
    dims = port.type.tensor_type.shape.dim
    for k, (dim, axis) in enumerate(zip(dims, axes, strict=False)):
        if isinstance(axis, int):
            dim.dim_value = axis
        elif not dim.HasField("dim_value"):
            dim.dim_param = axis or f"{port.name}_axis_{k}"
