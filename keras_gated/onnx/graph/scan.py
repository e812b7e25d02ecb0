"""Exports a layer as an ONNX Scan whose body is one time step of the cell.

No formula is written down here: TensorFlow records the engine's own step, which multiplies only the
blocks that the cell has, and tf2onnx converts the recorded graph. Weights stay outside of the body;
all calls of a layer share them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from keras_gated.onnx.errors import require
from keras_gated.onnx.graph.joined_nodes import NodeJoiner
from keras_gated.onnx.graph.tf2onnx import convert_graph
from keras_gated.onnx.graph.writer import GraphWriter, all_nodes, rename_tensors
from keras_gated.spec.onnx_operator import NoOperator


@dataclass(frozen=True)
class ScanCall:
    """One call of a layer that is exported as a Scan. A stub stands for it.

    The stub's inputs are the carried tensors, the series (the inputs of all time steps), and the
    tensors around the loop that the step reads, e.g. weights. Its outputs are the last carried
    tensors and the series that the step makes.

    Attributes:
        name: of the call, readable.
        step: a tf.Graph of one time step.
        inputs, outputs: names of the step's tensors in that graph, in the stub's order.
        carried: number of tensors carried from step to step.
        series: number of series (T, B, ...) that go in.
        opset: int, version of the ONNX operators.
    """

    name: str
    step: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    carried: int
    series: int
    opset: int

    def nodes(self, stub: Any, write: GraphWriter) -> list:
        """Returns the Scan node in place of the stub.

        ONNX's Scan takes the carried tensors and the series as inputs. Its body reads everything
        else from the graph around it by name.
        """
        own = self.carried + self.series  # inputs of the Scan; the stub's others are read by name
        wanted = [k for k, name in enumerate(stub.output) if k < self.carried or name in write.read]
        body = convert_graph(self.step, self.inputs, [self.outputs[k] for k in wanted], self.opset)
        _infer_shapes(body, self.opset)
        self._rename_body(body, self.inputs[own:], stub.input[own:])
        write.start(self.name)
        states, series = self._sort_inputs(body, stub)
        NodeJoiner(body, series, write).run()
        del body.value_info[:]
        _make_portable(body, self.carried)
        onnx, *_ = require("onnx")
        node = onnx.helper.make_node(
            "Scan",
            [*states, *series.values()],
            [stub.output[k] for k in wanted],
            name=f"{self.name}/Scan",
            body=body,
            num_scan_inputs=len(series),
        )
        return [*write.nodes, node]

    def _sort_inputs(self, body: Any, stub: Any) -> tuple[list, dict[str, str]]:
        """Returns the carried tensors, and {input of the body: series}."""
        outer = stub.input[: self.carried + self.series]
        inner = [port.name for port in body.input]
        pairs = zip(inner[self.carried :], outer[self.carried :], strict=True)
        return list(outer[: self.carried]), dict(pairs)

    def _rename_body(self, body: Any, read: Sequence[str], outer: Sequence[str]) -> None:
        """Renames the body's tensors so that they are unique in the file.

        Args:
            body: the onnx.GraphProto, as converted on its own.
            read: tensors of the body that are tensors of the graph around it,
            outer: and their names there.
        """
        outer_names = dict(zip(read, outer, strict=True))
        own = {name for node in all_nodes(body) for name in (*node.input, *node.output) if name}
        own |= {t.name for ts in (body.input, body.output, body.initializer) for t in ts}
        rename_tensors(body, {n: outer_names.get(n, f"{self.name}/{n}") for n in own})
        for node in all_nodes(body):
            node.name = f"{self.name}/{node.name}"
        body.value_info.extend(port for port in body.input if port.name in outer)
        for ports in (body.input, body.output):
            # What is read from the graph around it is no input of the body any more. Copies, for
            # protobuf may invalidate messages that are deleted from a field.
            remaining = [port for port in ports if port.name not in outer]
            copies = [type(port).FromString(port.SerializeToString()) for port in remaining]
            del ports[:]
            ports.extend(copies)
        body.name = self.name


def _infer_shapes(body: Any, opset: int) -> None:
    """Puts what is known of the shapes of a body's tensors into its `value_info`."""
    onnx, _ = require("onnx", "onnx.shape_inference")
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", opset)])
    known = onnx.shape_inference.infer_shapes(model).graph.value_info
    del body.value_info[:]
    body.value_info.extend(known)


def _make_portable(body: Any, carried: int) -> None:
    """Brings the body of a Scan into a form that all runtimes load; tract needs both changes.

    Sizes of the body that are not known have no names: a name stands for one size in the whole
    file, and here it may be another. Where a carried tensor equals a series, the series is made
    from it and not the other way round.
    """
    for port in (*body.input, *body.output):
        for dim in port.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.ClearField("dim_param")
    states = {port.name for port in body.output[:carried]}
    series = {port.name for port in body.output[carried:]}
    swapped: dict[str, str] = {}
    for node in body.node:
        if node.op_type != "Identity" or node.input[0] in swapped:
            continue  # where two states equal a series, it is made from the first
        if node.output[0] in states and node.input[0] in series:
            swapped |= {node.output[0]: node.input[0], node.input[0]: node.output[0]}
    for node in all_nodes(body):
        for tensors in (node.input, node.output):
            tensors[:] = [swapped.get(name, name) for name in tensors]


def scan_loop(name: str, opset: int, add_stub: Callable) -> Callable:
    """Returns a loop for `engine.run.run_in_loop` that adds a stub instead of looping.

    Args:
        name: of the call.
        opset: int, version of the ONNX operators.
        add_stub: (call, tensors, [(dtype, shape) of each output]) -> outputs.
    """

    def loop(step: Callable, carry: list, xs: list) -> tuple[list, list]:
        traced = _trace_step(step, carry, xs)
        call = ScanCall(
            name=name,
            step=traced.graph,
            inputs=tuple(t.name for t in traced.inputs),
            outputs=tuple(t.name for t in traced.outputs),
            carried=len(carry),
            series=len(xs),
            opset=opset,
        )
        time = xs[0].shape[:1]
        shapes = [(y.dtype, y.shape) for y in traced.outputs[: len(carry)]]
        shapes += [(y.dtype, time + y.shape) for y in traced.outputs[len(carry) :]]
        outputs = add_stub(call, [*carry, *xs, *traced.captured_inputs], shapes)
        return outputs[: len(carry)], outputs[len(carry) :]

    return loop


def _trace_step(step: Callable, carry: list, xs: list) -> Any:
    """Returns one step as a recorded function of the carried tensors and of one of each series.

    Raises:
        NoOperator: if the step reads a variable. Its value would have to be read in the body, and
            ONNX has no variables.
    """
    (tf,) = require("tensorflow")

    def function(*tensors):
        new, ys = step(list(tensors[: len(carry)]), list(tensors[len(carry) :]))
        return [tf.identity(y) for y in (*new, *ys)]

    signature = [tf.TensorSpec(c.shape, c.dtype) for c in carry]
    signature += [tf.TensorSpec(x.shape[1:], x.dtype) for x in xs]
    traced = tf.function(function, autograph=False).get_concrete_function(*signature)
    if any(tensor.dtype == tf.resource for tensor in traced.captured_inputs):
        raise NoOperator("an activation reads a variable, which a Scan cannot hold")
    return traced
