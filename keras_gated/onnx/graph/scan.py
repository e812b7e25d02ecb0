"""A layer as an ONNX Scan: its own step, traced once, with only the blocks that the cell has.

The body is what the formula does for one time step, converted as any other graph is; so nothing of
a cell is written down here. Weights stay outside the body and are shared by all calls.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from keras_gated.onnx.errors import require
from keras_gated.onnx.graph.tf2onnx import convert_graph
from keras_gated.onnx.graph.writer import GraphWriter, nodes_in, rename
from keras_gated.spec.onnx_operator import Refused


@dataclass(frozen=True)
class Scan:
    """One call of a layer that is a Scan, of which the traced graph holds a stub.

    The stub's inputs are the carried tensors, the series, and what the step reads of the graph
    around it; its outputs the last carried tensors and the series that come out.

    Attributes:
        name: of the call, readable.
        step: a tf.Graph of one time step.
        inputs, outputs: names of the step's tensors in that graph, in the stub's order.
        carried: number of tensors carried from step to step.
        series: number of series (T, B, ...) that go in.
        opset: int, of the ONNX standard.
    """

    name: str
    step: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    carried: int
    series: int
    opset: int

    def nodes(self, stub: Any, write: GraphWriter) -> list:
        """Returns the nodes in place of the stub."""
        inside = self.carried + self.series
        wanted = [k for k, name in enumerate(stub.output) if k < self.carried or name in write.read]
        body = convert_graph(self.step, self.inputs, [self.outputs[k] for k in wanted], self.opset)
        self._name_inside(body, self.inputs[inside:], stub.input[inside:])
        onnx, *_ = require("onnx")
        node = onnx.helper.make_node(
            "Scan",
            stub.input[:inside],
            [stub.output[k] for k in wanted],
            name=f"{self.name}/Scan",
            body=body,
            num_scan_inputs=self.series,
        )
        return [node]

    def _name_inside(self, body: Any, read: Sequence[str], around: Sequence[str]) -> None:
        """Gives the body's tensors names of their own; what it reads is called as around it."""
        given = dict(zip(read, around, strict=True))
        own = {name for node in nodes_in(body) for name in (*node.input, *node.output) if name}
        own |= {t.name for ts in (body.input, body.output, body.initializer) for t in ts}
        rename(body, {name: given.get(name, f"{self.name}/{name}") for name in own})
        for node in nodes_in(body):
            node.name = f"{self.name}/{node.name}"
        del body.value_info[:]
        for ports in (body.input, body.output):
            kept = [port for port in ports if port.name not in around]
            kept = [type(port).FromString(port.SerializeToString()) for port in kept]
            del ports[:]
            ports.extend(kept)
        body.name = self.name


def scan(name: str, opset: int, leave: Callable) -> Callable:
    """Returns a loop for `keras_gated.engine.run.run_fused` that leaves a stub.

    Args:
        name: of the call.
        opset: int, of the ONNX standard.
        leave: (call, tensors, dtypes and shapes of the outputs) -> outputs.
    """

    def loop(step: Callable, carry: list, xs: list) -> tuple[list, list]:
        traced = _traced(step, carry, xs)
        names = tuple(t.name for t in traced.inputs)
        call = Scan(
            name, traced.graph, names, tuple(t.name for t in traced.outputs),
            len(carry), len(xs), opset,
        )  # fmt: skip
        time = xs[0].shape[:1]
        shapes = [(y.dtype, y.shape) for y in traced.outputs[: len(carry)]]
        shapes += [(y.dtype, time + y.shape) for y in traced.outputs[len(carry) :]]
        outputs = leave(call, [*carry, *xs, *traced.captured_inputs], shapes)
        return outputs[: len(carry)], outputs[len(carry) :]

    return loop


def _traced(step: Callable, carry: list, xs: list) -> Any:
    """One step as a function of TensorFlow, of the carried tensors and of one of each series."""
    (tf,) = require("tensorflow")

    def function(*tensors):
        new, ys = step(list(tensors[: len(carry)]), list(tensors[len(carry) :]))
        return [tf.identity(y) for y in (*new, *ys)]

    signature = [tf.TensorSpec(c.shape, c.dtype) for c in carry]
    signature += [tf.TensorSpec(x.shape[1:], x.dtype) for x in xs]
    traced = tf.function(function, autograph=False).get_concrete_function(*signature)
    if any(tensor.dtype == tf.resource for tensor in traced.captured_inputs):
        raise Refused("an activation reads a variable, which a Scan cannot hold")
    return traced
