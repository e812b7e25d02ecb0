"""The values that a file is compared on: random numbers, and those that mean something to a model.

Numbers that are merely random miss mistakes: lengths that are all 0 or 1, token indices without the
one for padding, sequences without the value that a mask looks for. So `facts.py` asks the graph and
the layers which values matter. Whole time steps get what the model compares its input with, at the
end and in holes. An integer for each sequence (B,) that is no index is taken for a length: 0 to T.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.tracing.model_io import Port, shape_of
from keras_gated.onnx.verify.facts import Facts, facts_of_inputs, is_integer, is_length

Feed = dict[str, np.ndarray]  # {input name: array}, as onnxruntime takes it

# (least, most - T) that lengths may be. A model may refuse 0, or T where it means an index.
LENGTHS = ((0, 0), (1, 0), (0, -1), (1, -1))
MOST_PADDINGS = 4


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
        return any(is_length(port) and facts.limit is None for port, facts in self._inputs)

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
        if is_integer(port):
            if facts.limit is None and is_length(port):
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
        elif is_integer(port) and is_length(port):
            least, below = self.lengths
            parts = [f"lengths {least} to the number of time steps{f' {below}' if below else ''}"]
        else:
            parts = ["0 and 1" if is_integer(port) else f"random {port.dtype}"]
        if values := self._padding_values(port, facts):
            names = ", ".join(f"{v:g}" for v in values)
            parts.append(f"{names} at the end and in holes" if port.dtype != "bool" else "padding")
        if facts.thresholds:
            parts.append(f"numbers around {', '.join(f'{v:g}' for v in facts.thresholds)}")
        return "; ".join(parts)

    # Changes of one input: (what is in it, array), or None if there is none (any more)

    def _extreme_lengths(self, port: Port, facts: Facts, array: np.ndarray, k: int, steps: int):
        if k or facts.limit is not None or not (is_integer(port) and is_length(port)):
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
