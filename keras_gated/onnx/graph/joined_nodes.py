"""Joins nodes of a Scan's body that do the same to the parts of one tensor.

A product of several gates is cut into parts, and each part has an Add and a Sigmoid of its own. At
every time step each node costs a part of a microsecond, whatever its size. What acts entry by entry
may as well act before the cut:

    Split(a) -> a_i, a_f, a_c            Add(a, x), where x is Concat(x_i, x_f, x_c)
    Add(a_i, x_i) -> Sigmoid -> i        Split -> a_if, a_c
    Add(a_f, x_f) -> Sigmoid -> f   =>   Sigmoid(a_if) -> Split -> i, f
    Add(a_c, x_c) -> Tanh    -> c        Tanh(a_c) -> c

x_i, x_f and x_c are series here, so they are concatenated once, outside of the Scan. At last, a
product and the Add behind it become one Gemm.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from keras_gated.onnx.errors import require
from keras_gated.onnx.graph.writer import GraphWriter, read_by

BY_ENTRY = {"Sigmoid", "Tanh", "Relu", "HardSigmoid", "Softplus", "Elu", "Softsign", "Abs", "Exp"}


class NodeJoiner:
    """Joins the nodes of one body.

    Args:
        body: the onnx.GraphProto. Its `value_info` says what is known of the shapes, also of what
            the body reads from the graph around it.
        series: {input of the body: the series outside that it is one time step of}. The joined
            series are added, and those that are not read alone any more are removed.
        write: the writer of the graph around the Scan, which gets the Concat nodes of the series.
    """

    def __init__(self, body: Any, series: dict[str, str], write: GraphWriter):
        (onnx,) = require("onnx")
        self._make_node = onnx.helper.make_node
        self._body, self._series, self._write = body, series, write
        self._nodes = list(body.node)
        self._joined: set[str] = set()  # series that are part of another one now
        self._rank, self._columns = {}, {}  # of each tensor, where they are known
        for port in (*body.input, *body.value_info):
            dims = port.type.tensor_type.shape.dim
            self._rank[port.name] = len(dims)
            self._columns[port.name] = dims[-1].dim_value if dims else 0

    def run(self) -> None:
        """Joins what can be joined, in place."""
        while self._join_one():
            pass
        while self._fuse_one():
            pass
        for node in self._nodes:
            if node.op_type == "Split":
                self._write_sizes(node)
        self._drop_series()
        del self._body.node[:]
        self._body.node.extend(self._nodes)

    def _readers(self) -> dict[str, list]:
        """Returns {tensor: the nodes that read it}, with None for an output of the body."""
        readers: dict[str, list] = defaultdict(list)
        for node in self._nodes:
            for name in read_by(node):
                readers[name].append(node)
        for output in self._body.output:
            readers[output.name].append(None)
        return readers

    # Nodes behind a Split

    def _join_one(self) -> bool:
        """Joins the first run of nodes that do the same; returns whether there was one."""
        readers = self._readers()
        for split in self._nodes:
            if split.op_type != "Split" or not all(self._columns.get(k) for k in split.output):
                continue
            operations = [self._operation(part, readers[part]) for part in split.output]
            for operation, places in groupby(range(len(operations)), operations.__getitem__):
                parts = [split.output[k] for k in places]
                if operation and len(parts) > 1:
                    self._join(split, parts, [readers[part][0] for part in parts])
                    return True
        return False

    def _operation(self, part: str, readers: list) -> tuple | None:
        """Returns what is done to a part; None unless one node reads it, entry by entry."""
        if len(readers) != 1 or readers[0] is None:
            return None
        (node,) = readers
        if node.op_type in BY_ENTRY:
            return (node.op_type, *(a.SerializeToString() for a in node.attribute))
        kind, columns = self._summand(node, part)
        return ("Add", kind) if columns == self._columns[part] else None

    def _summand(self, node: Any, tensor: str) -> tuple[str, int]:
        """Returns what a node adds to a tensor: "series" or "constant", and its columns.

        No columns if the node is no Add, or adds something that the step computes.
        """
        if node.op_type != "Add":
            return "", 0
        other = _other(node, tensor)
        if other in self._series:
            return "series", self._columns.get(other, 0)
        array = self._write.array(other)
        return ("constant", array.size) if array is not None and array.ndim == 1 else ("", 0)

    def _join(self, split: Any, parts: list[str], nodes: list) -> None:
        """Puts one node in place of those that read the given parts, which are in a row."""
        summands = [
            _other(n, part) for n, part in zip(nodes, parts, strict=True) if n.op_type == "Add"
        ]
        operands = [self._side_by_side(summands)] if summands else []
        outputs = [node.output[0] for node in nodes]
        before, after = f"{parts[0]}/uncut", f"{outputs[0]}/joined"
        joined = self._make_node(nodes[0].op_type, [before, *operands], [after], name=after)
        joined.attribute.extend(nodes[0].attribute)
        cut = self._make_node("Split", [after], outputs, name=f"{after}/split")
        cut.attribute.extend(split.attribute)
        columns = [self._columns[part] for part in parts]
        self._columns |= {before: sum(columns), **dict(zip(outputs, columns, strict=True))}
        start = list(split.output).index(parts[0])
        remaining = [*split.output]
        remaining[start : start + len(parts)] = [before]
        split.output[:] = remaining
        new = [split, joined, cut]
        if len(remaining) == 1:  # all parts: there is nothing to cut before
            joined.input[0] = split.input[0]
            new = [joined, cut]
        self._replace(split, new, nodes)

    def _side_by_side(self, names: Sequence[str]) -> str:
        """Returns the name of some series, or some constants, side by side."""
        joined = f"{names[0]}/joined"
        if names[0] not in self._series:
            found = (self._write.array(name) for name in names)
            array = np.concatenate([one for one in found if one is not None])
            # Constants with equal numbers are one constant, so its name alone says too little.
            return self._write.constant(self._write.name_for(("joined", *names), joined), array)
        (port,) = (port for port in self._body.input if port.name == names[0])
        new = self._body.input.add()
        new.CopyFrom(port)
        new.name, columns = joined, sum(self._columns[name] for name in names)
        new.type.tensor_type.shape.dim[-1].dim_value = self._columns[joined] = columns
        self._joined.update(names)
        outer = [self._series[name] for name in names]
        self._series[joined] = self._write.node("Concat", outer, axis=-1)
        return joined

    def _write_sizes(self, split: Any) -> None:
        """Gives a Split the sizes of its parts if they differ, and else their number."""
        columns = [self._columns.get(part, 0) for part in split.output]
        equal = len(set(columns)) == 1
        for attribute in list(split.attribute):
            if attribute.name == "num_outputs":  # from opset 18 on, where they are equal
                attribute.i = len(columns)
                if not equal:
                    split.attribute.remove(attribute)
        if not equal:
            split.input.append(self._write.ints(*columns))

    def _drop_series(self) -> None:
        """Removes the series of which only the joined one is read."""
        readers = self._readers()
        for port in list(self._body.input):
            if port.name in self._joined and port.name not in readers:
                del self._series[port.name]
                self._body.input.remove(port)

    # Products

    def _fuse_one(self) -> bool:
        """Makes a Gemm of the first product with an Add behind it; whether there was one."""
        readers = self._readers()
        for product in self._nodes:
            ranks = {self._rank.get(name) for name in product.input}
            if product.op_type != "MatMul" or ranks != {2}:
                continue
            (y,) = product.output
            (add,) = readers[y] if len(readers[y]) == 1 else [None]
            if add is not None and self._summand(add, y)[1] > 1:
                inputs = [*product.input, _other(add, y)]
                gemm = self._make_node("Gemm", inputs, add.output, name=product.name)
                self._replace(product, [gemm], [add])
                return True
        return False

    def _replace(self, old: Any, new: list, removed: list) -> None:
        """Puts nodes in the place of one, and removes others."""
        nodes = []
        for node in self._nodes:
            if node is old:
                nodes += new
            elif not any(node is one for one in removed):
                nodes.append(node)
        self._nodes = nodes


def _other(add: Any, tensor: str) -> str:
    """The name of what an Add adds to a tensor."""
    first, second = add.input
    return first if second == tensor else second
