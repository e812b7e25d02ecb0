"""Stores each weight of a recurrent node once.

A native operator has all its blocks, whatever the cell has. Where blocks are absent, tied or
diagonal, nodes in front of the operator put its weights together. onnxruntime runs them once, when
it loads the file.

| block | made by |
|---|---|
| one number everywhere, as of an absent gate | ConstantOfShape |
| equal to an earlier block, or its negative, as of a tied gate | that block, Neg |
| diagonal | EyeLike times the diagonal |
| smaller blocks on the diagonal, zeros elsewhere | EyeLike times these |
| a kernel beside zeros, as where blocks read different functions of the input | Concat |

The blocks are recognised by their numbers, so this file knows no cell.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_gated.onnx.errors import require
from keras_gated.onnx.graph.large_weights import compute_nodes
from keras_gated.onnx.graph.writer import (
    RECURRENT_OPERATORS,
    all_nodes,
    drop_unread_constants,
    tensors_read,
)

FLOAT = 1  # onnx.TensorProto.FLOAT
PREFIX = "keras_gated/blocks/"  # of the nodes
LEAST_SAVED = 2048  # bytes for which a weight is put together by nodes
BLOCKS = {"LSTM": 4, "GRU": 3, "RNN": 1}


def count_stored(operator: str, arrays: Mapping[str, np.ndarray]) -> int:
    """Returns how many numbers `store_once` keeps of an operator's weights "W", "R", "B", "P"."""
    (onnx,) = require("onnx")
    blocks, total = blocks_of(operator), 0
    for key, array in arrays.items():
        parts = _Parts(onnx, f"{PREFIX}{key}")
        parts.write(array, blocks[key])
        whole = onnx.numpy_helper.from_array(array, key)
        total += parts.count if parts.are_smaller(whole) else array.size
    return total


def blocks_of(operator: str) -> dict[str, int]:
    """Returns how many blocks each weight of an operator has, in one direction."""
    count = BLOCKS[operator]
    return {"W": count, "R": count, "B": 2 * count, "P": 3}


def store_once(model: Any) -> None:
    """Takes what can be computed out of the weights of the recurrent nodes of a model, in place.

    Args:
        model: an onnx.ModelProto. What would become hardly smaller is left as it is.
    """
    (onnx,) = require("onnx")
    graph, nodes = model.graph, []
    # A constant that is an input as well is only a default: a caller may pass another.
    inputs = {port.name for port in graph.input}
    tensors = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in inputs}
    for name, blocks, side_by_side in _weights(graph):
        if (tensor := tensors.pop(name, None)) is not None:
            parts = _Parts(onnx, name)
            parts.write(onnx.numpy_helper.to_array(tensor), blocks, side_by_side)
            if parts.are_smaller(tensor):
                graph.initializer.remove(tensor)
                graph.initializer.extend(parts.tensors)
                nodes += parts.nodes
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)


def restore(model: Any) -> None:
    """Undoes `store_once`, for what needs the weights of an operator whole."""
    (onnx,), graph = require("onnx"), model.graph
    nodes = [node for node in graph.node if node.name.startswith(PREFIX)]
    arrays = compute_nodes(model, nodes, {})
    for node in nodes:
        graph.node.remove(node)
    for name in tensors_read(graph) & set(arrays):
        graph.initializer.append(onnx.numpy_helper.from_array(arrays[name], name))
    drop_unread_constants(graph)


def _weights(graph: Any) -> Iterator[tuple[str, int, bool]]:
    """Yields each weight of the recurrent nodes: its name, the number of its blocks, and whether
    these are side by side.
    """
    for node in all_nodes(graph):
        operator = node.op_type.removeprefix("DynamicQuantize")
        if operator not in RECURRENT_OPERATORS:
            continue
        directions = 1 + any(a.s == b"bidirectional" for a in node.attribute)
        in_int8, blocks = operator != node.op_type, blocks_of(operator)
        for at, key in {1: "W", 2: "R", 3: "B", 7: "P"}.items():
            side_by_side = in_int8 and key in "WR"
            if at < len(node.input) and not (side_by_side and directions > 1):
                yield node.input[at], directions * blocks[key], side_by_side


class _Parts:
    """Nodes and constants that make one weight of an operator.

    Attributes:
        nodes, tensors: of ONNX.
    """

    def __init__(self, onnx: Any, name: str):
        self._onnx, self._name = onnx, name
        self.nodes: list = []
        self.tensors: list = []

    @property
    def count(self) -> int:
        """Number of weights that are stored."""
        return sum(math.prod(t.dims) for t in self.tensors if t.data_type == FLOAT)

    def are_smaller(self, tensor: Any) -> bool:
        """Returns whether they take `LEAST_SAVED` bytes less than the weight whole."""
        parts = sum(proto.ByteSize() for proto in (*self.nodes, *self.tensors))
        return parts + LEAST_SAVED <= tensor.ByteSize()

    def write(self, array: np.ndarray, count: int, side_by_side: bool = False) -> None:
        """Writes a weight that has `count` equal blocks, below each other or side by side."""
        if side_by_side:
            blocks = np.stack(np.split(array[0], count, axis=-1))
        else:
            blocks = array.reshape(count, -1, *array.shape[2:])
        axis = int(side_by_side)
        ways = [_way(blocks, k) for k in range(count)]
        shared = {way[1] for way in ways if way[0] in ("same", "negative")}
        made: dict[int, str] = {}
        for group in _groups(ways, shared):
            way, value = ways[group[0]]
            joined = np.concatenate(blocks[group], axis)
            made[group[0]] = self._write_block(way, value, joined, made)
        self._add("Reshape", [self._joined(list(made.values()), axis), self._ints(array.shape)])
        self.nodes[-1].output[0] = self._name

    def _write_block(self, way: str, value: Any, block: np.ndarray, made: dict) -> str:
        if way == "same":
            return made[value]
        if way == "negative":
            return self._add("Neg", [made[value]])
        if way == "constant":
            return self._constant(block.shape, value)
        if way == "diagonal":
            square = self._constant(block.shape, block.dtype.type(0))
            return self._add("Mul", [self._add("EyeLike", [square]), self._stored(value)])
        if way == "diagonal blocks":
            return self._write_diagonal_blocks(value, block.shape)
        if way == "columns":
            return self._write_columns(block, *value)
        return self._stored(block)

    def _write_diagonal_blocks(self, blocks: np.ndarray, shape: tuple) -> str:
        """Writes a block with smaller blocks (n, rows, columns) on its diagonal."""
        n, zero = len(blocks), blocks.dtype.type(0)
        eye = self._add("EyeLike", [self._constant((n, n), zero)])
        eye = self._add("Reshape", [eye, self._ints((n, 1, n, 1))])
        product = self._add("Mul", [eye, self._stored(blocks[:, :, None, :])])
        return self._add("Reshape", [product, self._ints(shape)])

    def _write_columns(self, block: np.ndarray, first: int, end: int) -> str:
        """Writes a block that is zero but for some columns."""
        inner = block[:, first:end]
        parts = [self._write_block(*_way([inner], 0), inner, {})]
        for width, place in ((block.shape[1] - end, len(parts)), (first, 0)):
            if width:
                zeros = self._constant((len(block), width), block.dtype.type(0))
                parts.insert(place, zeros)
        return self._joined(parts, 1)

    def _constant(self, shape: tuple, value: np.generic) -> str:
        tensor = self._onnx.numpy_helper.from_array(np.array([value]))
        return self._add("ConstantOfShape", [self._ints(shape)], value=tensor)

    def _joined(self, names: list[str], axis: int) -> str:
        return names[0] if len(names) == 1 else self._add("Concat", names, axis=axis)

    def _ints(self, values: Iterable[int]) -> str:
        return self._stored(np.array(values, np.int64))

    def _stored(self, array: np.ndarray) -> str:
        name = f"{self._name}/{len(self.tensors)}"
        self.tensors.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{PREFIX}{self._name}/{len(self.nodes)}"
        node = self._onnx.helper.make_node(kind, inputs, [name], name=name, **attributes)
        self.nodes.append(node)
        return name


def _way(blocks: Any, k: int) -> tuple[str, Any]:
    """Returns how a block can be made, and from what."""
    block = blocks[k]
    if (block == block.flat[0]).all():
        return "constant", block.flat[0]
    for j in range(k):
        if np.array_equal(block, blocks[j]):
            return "same", j
        if np.array_equal(block, -blocks[j]):
            return "negative", j
    if block.ndim == 1:
        return "stored", None
    floating = block.dtype.kind == "f"
    if floating and block.shape[0] == block.shape[1] and np.isfinite(block).all():
        diagonal = np.diagonal(block)
        if np.array_equal(block, np.diag(diagonal)):
            return "diagonal", diagonal
    if floating and (parts := _diagonal_blocks(block)) is not None:
        return "diagonal blocks", parts
    columns = np.flatnonzero(block.any(axis=0))
    first, end = int(columns[0]), int(columns[-1]) + 1
    return ("columns", (first, end)) if end - first < block.shape[1] else ("stored", None)


def _diagonal_blocks(block: np.ndarray) -> np.ndarray | None:
    """The blocks (n, rows, columns) on the diagonal beside which a matrix is zero, for n > 1."""
    rows, columns = block.shape
    for n in range(min(rows, columns), 1, -1):
        if rows % n == columns % n == 0:
            grid = block.reshape(n, rows // n, n, columns // n).transpose(0, 2, 1, 3)
            parts = grid[np.arange(n), np.arange(n)]
            if np.count_nonzero(parts) == np.count_nonzero(block) and np.isfinite(parts).all():
                return parts
    return None


def _groups(ways: list[tuple], shared: set[int]) -> Iterator[list[int]]:
    """Yields the blocks that are written together: those in a row that are stored, or one."""
    group: list[int] = []
    for k, (way, _) in enumerate(ways):
        alone = way != "stored" or k in shared
        if group and (alone or ways[group[-1]][0] != "stored" or group[-1] in shared):
            yield group
            group = []
        group.append(k)
    yield group
