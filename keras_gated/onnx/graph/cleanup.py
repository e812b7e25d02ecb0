"""What a converted graph still needs: no stray pieces, readable names, and a hard look at it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.graph.guards import drop_needless, guard_inputs
from keras_gated.onnx.graph.writer import drop_unread, nodes_in, rename


def count_operators(graph: Any) -> dict[str, int]:
    """Returns how many nodes there are of each operator, those of inner graphs included."""
    counts = Counter(node.op_type for node in nodes_in(graph))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def tidy(
    model: Any,
    name: str,
    weights: Mapping[str, np.ndarray],
    inputs: Mapping,
    outputs: Mapping,
    guard: bool,
) -> None:
    """Puts names and order right, in place.

    Args:
        model: an onnx.ModelProto.
        name: of the Keras model, under which the converter names everything.
        weights: the model's weights by readable name; an equal constant gets that name.
        inputs: for each input, in order, a name or size of each axis.
        outputs: the same for each output; None for an axis of which nothing is known.
        guard: whether an empty input has to be made an error, as it is where there is a Loop.
    """
    graph = model.graph
    if guard or any(node.op_type == "Loop" for node in nodes_in(graph)):
        guard_inputs(graph)
    drop_needless(graph)
    drop_unread(graph)
    _name_weights(graph, weights)
    _strip_scope(graph, name)
    for ports, axes in ((graph.input, inputs), (graph.output, outputs)):
        kept = {port.name: port for port in ports}
        ordered = [kept[name] for name in axes if name in kept]
        rest = [port for name, port in kept.items() if name not in axes]
        for port in ordered:
            _name_axes(port, axes[port.name])
        ordered = [type(port).FromString(port.SerializeToString()) for port in ordered + rest]
        del ports[:]
        ports.extend(ordered)
    graph.name = name
    model.producer_name = "keras_gated"


def check_graph(model: Any, inputs: Sequence[str], complaints: Sequence[str]) -> None:
    """Raises an ExportError unless the file is valid ONNX and takes the model's inputs only.

    Args:
        model: an onnx.ModelProto.
        inputs: names of the inputs that it should have.
        complaints: what the converter logged, to be told with a failure.
    """
    (onnx,) = require("onnx")
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    unknown = sorted(
        {
            f"{node.op_type} (node {node.name!r})"
            for node in nodes_in(model.graph)
            if not _defined(onnx, node, opset)
        }
    )
    said = "".join(f"\n  tf2onnx: {text}" for text in complaints)
    if unknown:
        raise ExportError(
            f"The model does operations that have no ONNX form: {', '.join(unknown)}. "
            f"Replace them in the model, or move them behind the exported part.{said}"
        )
    extra = [port.name for port in model.graph.input if port.name not in inputs]
    if extra:
        raise ExportError(
            f"The traced graph has inputs that are not the model's: {extra}. A tensor made outside "
            "the model (e.g. a tf.constant) is used inside: make it in call(), or hold it as a "
            "NumPy array or a weight."
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The converted graph is not valid ONNX: {error}{said}") from error


def _defined(onnx: Any, node: Any, opset: int) -> bool:
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
    """Gives a constant that equals exactly one weight of the model the weight's name."""
    (onnx,) = require("onnx")
    taken = {tensor.name for tensor in graph.initializer}
    names: dict[str, str] = {}
    for tensor in graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.size < 2 or (array == array.flat[0]).all():
            continue  # so plain a constant may stand for anything
        equal = [n for n, w in weights.items() if w.shape == array.shape and (w == array).all()]
        if len(equal) == 1 and equal[0] not in taken:
            taken.add(equal[0])
            names[tensor.name] = equal[0]
    rename(graph, names)


def _strip_scope(graph: Any, name: str) -> None:
    """Takes the model's own name off the names that begin with it, where they stay unique."""
    scope = re.compile(rf"^{re.escape(name)}(_\d+)*/(?=.)")
    taken = {tensor for node in nodes_in(graph) for tensor in (*node.input, *node.output)}
    ports = {port.name for port in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    for tensor in sorted(taken - ports):
        short = scope.sub("", tensor)
        if short not in taken:
            names[tensor] = short
            taken.add(short)
    rename(graph, names)
    called = {node.name for node in nodes_in(graph)}
    for node in nodes_in(graph):
        if (short := scope.sub("", node.name)) not in called:
            called.add(short)
            node.name = short


def _name_axes(port: Any, axes: Sequence[str | int | None]) -> None:
    dims = port.type.tensor_type.shape.dim
    for k, (dim, axis) in enumerate(zip(dims, axes, strict=False)):
        if isinstance(axis, int):
            dim.dim_value = axis
        elif not dim.HasField("dim_value"):
            dim.dim_param = axis or f"{port.name}_axis_{k}"
