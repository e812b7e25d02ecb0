"""The values that a file is compared on: random numbers, and those that mean something to a model.

Numbers that are merely random miss mistakes: lengths that are all 0 or 1, token indices without the
one for padding, sequences without the value that a mask looks for. So the graph and the layers are
asked which values matter:

    Gather(weights, ids)     ids are indices of `weights`
    Equal(x, -1)             -1 has a meaning: whole time steps get it, at the end and in holes
    Less(x, 5)               numbers around 5 matter

An integer for each sequence (B,) that is no index is taken for a length: 0 to T.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.graph.writer import all_nodes
from keras_gated.onnx.tracing.layer_places import layers_within
from keras_gated.onnx.tracing.model_io import Port, shape_of

Feed = dict[str, np.ndarray]  # {input name: array}, as onnxruntime takes it

# Operators whose output holds numbers of their inputs, and those that compute an index.
MOVING = {
    *("Cast", "Clip", "Concat", "Expand", "Flatten", "Gather", "GatherND", "Identity", "Max"),
    *("Min", "Pad", "ReduceMax", "ReduceMin", "Reshape", "Slice", "Split", "Squeeze", "Tile"),
    *("Transpose", "Unsqueeze", "Where"),
}
ARITHMETIC = MOVING | {"Abs", "Add", "Div", "Mod", "Mul", "Neg", "Sub"}
ORDER = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
CONDITION_FIRST = {"Where"}  # the first input is not among the numbers of the output
BOOL = 9  # onnx.TensorProto.BOOL
# (least, most - T) that lengths may be. A model may refuse 0, or T where it means an index.
LENGTHS = ((0, 0), (1, 0), (0, -1), (1, -1))
MOST_PADDINGS = 4


@dataclass(frozen=True)
class Facts:
    """What is known of the values of an input.

    Attributes:
        limit: token indices are below it; None for other numbers.
        paddings: values that the model compares its input with for equality.
        thresholds: values that the model asks to be smaller or larger than.
    """

    limit: int | None = None
    paddings: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()


def facts_of_inputs(model: keras.Model | None, graph: Any, ports: Sequence[Port]) -> list[Facts]:
    """Returns what the graph of a file and the layers of a model say of each input.

    Args:
        model: the Keras model, if it is known.
        graph: the onnx.GraphProto of the file.
        ports: the inputs.
    """
    layers = layers_within(model) if model else []
    embeddings = [layer for layer in layers if isinstance(layer, keras.layers.Embedding)]
    masked = [one.mask_value for one in layers if isinstance(one, keras.layers.Masking)]
    smallest = min((layer.input_dim for layer in embeddings), default=None)
    constants = _scalars(graph)
    facts = []
    for port in ports:
        limit, paddings, thresholds = _facts_of(graph, port, constants)
        if _is_integer(port):
            limit = limit or (None if _is_length(port) else smallest)
            paddings += [0] if limit and any(layer.mask_zero for layer in embeddings) else []
        else:
            paddings += masked if len(port.shape) > 2 else []
        facts.append(Facts(limit, _unique(paddings, port), _unique(thresholds, port)))
    return facts


class Feeds:
    """Makes inputs for a model or a file.

    Args:
        model: the Keras model, if it is known.
        graph: the onnx.GraphProto of the file.
        ports: the inputs.
        seed: int, of the random numbers.

    Attributes:
        lengths: one of `LENGTHS`, for the inputs that are lengths.
        other: size of open axes behind the second.
    """

    def __init__(self, model: keras.Model | None, graph: Any, ports: Sequence[Port], seed: int):
        self._rng = np.random.default_rng(seed)
        self._inputs = list(zip(ports, facts_of_inputs(model, graph, ports), strict=True))
        self.lengths, self.other = LENGTHS[0], 3

    @property
    def has_lengths(self) -> bool:
        """Whether an input is taken for lengths."""
        return any(_is_length(port) and facts.limit is None for port, facts in self._inputs)

    def __call__(self, batch: int, time: int) -> Feed:
        """Returns random inputs with these sizes for their first two axes, if they are open."""
        steps = _time_steps([port for port, _ in self._inputs], time)
        return {
            port.name: self._draw(port, facts, shape_of(port, batch, time, self.other), steps)
            for port, facts in self._inputs
        }

    def describe(self) -> list[str]:
        """Returns, for each input, which values it gets."""
        return [f"{port.name}: {self._describe(port, facts)}" for port, facts in self._inputs]

    def variants(self, feed: Feed) -> Iterator[tuple[str, Feed]]:
        """Yields further inputs like `feed`, each with what it has in it.

        Args:
            feed: random inputs of more than one time step.
        """
        steps = _time_steps(
            [port for port, _ in self._inputs], max(map(_second_size, feed.values()))
        )
        for words, change in (
            ("{} in turn", self._extreme_lengths),
            ("{} at the end", self._padding_at_the_end),
            ("{} in holes", self._padding_in_holes),
            ("{} in places", self._thresholds),
        ):
            for k in range(MOST_PADDINGS):
                changed, values = dict(feed), []
                for port, facts in self._inputs:
                    found = change(port, facts, feed[port.name], k, steps)
                    if found is not None:
                        text, changed[port.name] = found
                        values.append(f"{port.name} {text}")
                if not values:
                    break
                yield words.format(", ".join(values)), changed

    # One input

    def _draw(self, port: Port, facts: Facts, shape: Sequence[int], steps: int) -> np.ndarray:
        rng = self._rng
        if _is_integer(port):
            if facts.limit is None and _is_length(port):
                array = self._draw_lengths(shape, steps)
            else:
                array = rng.integers(0, facts.limit or 2, shape)
        elif port.dtype == "bool":
            array = rng.random(shape) < 0.7
        elif "float" in port.dtype:
            array = rng.standard_normal(shape)
        else:
            raise ExportError(
                f"Input {port.name!r} must have a float, integer or boolean dtype to be checked "
                f"with random values. Received: dtype={port.dtype}. Give inputs to compare on, "
                "inputs=..., or export with verify=False."
            )
        return array.astype(port.dtype)

    def _draw_lengths(self, shape: Sequence[int], steps: int) -> np.ndarray:
        least, most = self._least_and_most(steps)
        array = self._rng.integers(least, most + 1, shape)
        if most > 2:
            array.flat[0] = self._rng.integers(2, most)  # one that is neither of the extremes
        return array

    def _least_and_most(self, steps: int) -> tuple[int, int]:
        least, below = self.lengths
        return least, max(least, steps + below)

    def _describe(self, port: Port, facts: Facts) -> str:
        if facts.limit is not None:
            parts = [f"integers 0 to {facts.limit - 1}"]
        elif _is_integer(port) and _is_length(port):
            least, below = self.lengths
            parts = [f"lengths {least} to the number of time steps{f' {below}' if below else ''}"]
        else:
            parts = ["0 and 1" if _is_integer(port) else f"random {port.dtype}"]
        if values := self._padding_values(port, facts):
            names = ", ".join(f"{v:g}" for v in values)
            parts.append(f"{names} at the end and in holes" if port.dtype != "bool" else "padding")
        if facts.thresholds:
            parts.append(f"numbers around {', '.join(f'{v:g}' for v in facts.thresholds)}")
        return "; ".join(parts)

    # Changes of one input: (what is in it, array), or None if there is none (any more)

    def _extreme_lengths(self, port: Port, facts: Facts, array: np.ndarray, k: int, steps: int):
        if k or facts.limit is not None or not (_is_integer(port) and _is_length(port)):
            return None
        extremes = self._least_and_most(steps)
        values = np.resize(extremes[::-1], array.shape).astype(array.dtype)
        return f"{extremes[0]}, {extremes[1]}", values

    def _padding_values(self, port: Port, facts: Facts) -> tuple[float, ...]:
        if len(port.shape) < 2:
            return ()
        return (0,) if port.dtype == "bool" else facts.paddings[:MOST_PADDINGS]

    def _padding_at_the_end(self, port: Port, facts: Facts, array: np.ndarray, k: int, steps: int):
        ends = self._rng.integers(0, array.shape[1] + 1, len(array)) if array.ndim > 1 else array
        if array.ndim > 1 and array.shape[1] > 2:
            ends[0] = self._rng.integers(1, array.shape[1] - 1)
        return self._pad(port, facts, array, k, lambda: np.arange(array.shape[1]) >= ends[:, None])

    def _padding_in_holes(self, port: Port, facts: Facts, array: np.ndarray, k: int, steps: int):
        return self._pad(port, facts, array, k, lambda: self._rng.random(array.shape[:2]) < 0.4)

    def _pad(self, port: Port, facts: Facts, array: np.ndarray, k: int, where: Any):
        values = self._padding_values(port, facts)
        if k >= len(values):
            return None
        padded = np.ones_like(array) if port.dtype == "bool" else array.copy()
        padded[where()] = values[k]
        return f"{bool(values[k]) if port.dtype == 'bool' else f'{values[k]:g}'}", padded

    def _thresholds(self, port: Port, facts: Facts, array: np.ndarray, k: int, steps: int):
        # Paddings of an input without time, too: each is one number of a sequence.
        values = [v + d for v in facts.thresholds for d in (-1, 0, 1)]
        values += facts.paddings if len(port.shape) < 2 else ()
        values = [v for v in values if not facts.limit or 0 <= v < facts.limit]
        if k or not values:
            return None
        changed = np.where(
            self._rng.random(array.shape) < 0.7, self._rng.choice(values, array.shape), array
        )
        if array.size <= len(values):
            changed = np.resize(values, array.shape)
        return ", ".join(f"{v:g}" for v in values), changed.astype(array.dtype)


def with_one_nan(feed: Feed) -> Feed | None:
    """Returns inputs in which one number of each float sequence is NaN; None if there is none."""
    changed = dict(feed)
    for name, array in feed.items():
        if array.dtype.kind == "f" and array.ndim > 1:
            changed[name] = array.copy()
            changed[name][(0, array.shape[1] // 2, *(0,) * (array.ndim - 2))] = np.nan
    return None if all(changed[name] is array for name, array in feed.items()) else changed


def _second_size(array: np.ndarray) -> int:
    return array.shape[1] if array.ndim > 1 else 1


def _time_steps(ports: Sequence[Port], time: int) -> int:
    """Returns how many time steps the sequences have: `time` if one is open."""
    sizes = [port.shape[1] for port in ports if len(port.shape) > 1]
    longest = [port.shape[1] for port in ports if len(port.shape) > 2] or sizes
    return time if None in sizes else max((size for size in longest if size), default=time)


def _is_integer(port: Port) -> bool:
    return "int" in port.dtype


def _is_length(port: Port) -> bool:
    """Whether an input has one integer for each sequence."""
    return _is_integer(port) and all(size == 1 for size in port.shape[1:])


def _unique(values: Sequence[float], port: Port) -> tuple[float, ...]:
    """The values without repetition that are finite and that the input's dtype can hold."""
    finite = [v for v in values if np.isfinite(v)]
    if _is_integer(port):
        limits = np.iinfo(port.dtype)
        finite = [int(v) for v in finite if v == int(v) and limits.min <= v <= limits.max]
    return tuple(dict.fromkeys(finite))


# The graph ----------------------------------------------------------------------------------------


def _facts_of(graph: Any, port: Port, constants: dict[str, float]) -> tuple:
    """Returns what a graph says of an input: limit, paddings, thresholds."""
    numbers, computed = _reached(graph, port.name, MOVING), _reached(graph, port.name, ARITHMETIC)
    sizes = _sizes_of_constants(graph)
    limits, paddings, thresholds = [], [], []
    for node in all_nodes(graph):
        read = [name for name in node.input if name in numbers]
        compared = [constants[name] for name in node.input if name in constants]
        if node.op_type == "Equal" and read:
            paddings += compared
        elif node.op_type in ORDER and read:
            thresholds += compared
        elif node.op_type == "Cast" and read and any(a.i == BOOL for a in node.attribute):
            paddings += [0]
        elif node.op_type == "Gather" and node.input[0] in sizes and node.input[1] in computed:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            limits.append(sizes[node.input[0]][axis])
    return min(limits, default=None), paddings, thresholds


def _reached(graph: Any, name: str, operators: set[str]) -> set[str]:
    """Returns the tensors that hold an input's numbers if only these operators change them."""
    reached = {name}
    for node in all_nodes(graph):
        numbers = node.input[1:] if node.op_type in CONDITION_FIRST else node.input[:]
        numbers = node.input[:1] if node.op_type in ("Gather", "GatherND") else numbers
        if node.op_type in operators and reached.intersection(numbers):
            reached.update(node.output)
    return reached


def _constants(graph: Any) -> dict[str, Any]:
    """Returns the constants of a graph and of the graphs inside, as onnx.TensorProto."""
    graphs, tensors = [graph], {}
    while graphs:
        one = graphs.pop()
        tensors |= {tensor.name: tensor for tensor in one.initializer}
        for node in one.node:
            graphs += [a.g for a in node.attribute if a.HasField("g")]
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                tensors[node.output[0]] = node.attribute[0].t
    return tensors


def _scalars(graph: Any) -> dict[str, float]:
    """Returns the constants of one number."""
    (onnx,) = require("onnx")
    single = {k: t for k, t in _constants(graph).items() if np.prod(t.dims, dtype=int) == 1}
    arrays = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in single.items()}
    return {k: float(array.flat[0]) for k, array in arrays.items() if array.dtype.kind in "iuf"}


def _sizes_of_constants(graph: Any) -> dict[str, list[int]]:
    return {name: list(tensor.dims) for name, tensor in _constants(graph).items() if tensor.dims}
