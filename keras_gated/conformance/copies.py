"""The cell that is checked: copies of it with the same random weights, and what they run on."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gated.conformance.report import Skipped
from keras_gated.conformance.run_cell import tensors


class Subject:
    """A cell that is checked. It is never run or changed itself: each check has copies of its own.

    Args:
        cell: a cell, which is copied by its config, or a function that makes one.
        input_dim: features of x_t, or None.
        batch_size, time: sizes of the inputs.
        seed: of weights, states and inputs.
        tolerance: on the difference relative to max(1, |y|).

    Attributes:
        given: the cell; None where a function was given.
        example: the cell, or one that the function made; to look at.
        sizes: of the states.
        x: inputs (B, T, F).
        states: random initial states (B, U).

    Raises:
        ValueError: if it is no cell, or one whose states are nested.
    """

    def __init__(self, cell: Any, input_dim, batch_size: int, time: int, seed: int, tolerance):
        if not callable(cell):
            raise _no_cell(cell)
        self.given: Any = cell if isinstance(cell, keras.Layer) else None
        self._source, self._made = cell, 0
        self.seed, self.tolerance = seed, tolerance
        self.example = self._first_made() if self.given is None else self.given
        self.sizes = _sizes(self.example)
        self.input_dim = input_dim or _features(self.example)
        rng = self.rng("inputs")
        self.x = rng.standard_normal((batch_size, time, self.input_dim))
        self.states = [0.7 * rng.standard_normal((batch_size, size)) for size in self.sizes]
        self._weights: list[np.ndarray] = []

    def rng(self, purpose: str) -> np.random.Generator:
        """Returns random numbers that are the same for each call with one purpose."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def _first_made(self) -> Any:
        try:
            return self.plain()
        except TypeError as error:
            raise ValueError(
                "Argument `cell` must be a cell, or a function without arguments that makes one. "
                f"Received: {self._source!r}, which raises {error}. Give e.g. lambda: MyCell(8)."
            ) from error

    def plain(self, policy: str = "float32") -> Any:
        """Returns a copy that is not built.

        Raises:
            Skipped: if the config of the cell that was given makes none.
        """
        with self._defaults(policy):
            cell: Any = self._source() if self.given is None else self._copied(policy)
            if getattr(cell, "dtype_policy", None) and cell.dtype_policy.name != policy:
                cell.dtype_policy = policy
        return cell

    def cell(self, policy: str = "float32") -> Any:
        """Returns a copy with the weights that all copies have."""
        cell = self.plain(policy)
        self.build(cell)
        self._weights = self._weights or self.draw(cell, "weights")
        assign(cell, self._weights)
        return cell

    def build(self, cell: Any) -> None:
        """Builds a cell as `keras.layers.RNN` does; a step builds what is built at the first."""
        with self._defaults(cell.dtype_policy.name):
            if not cell.built:
                cell.build((len(self.x), self.input_dim))
                cell.built = True
            x, states = tensors(cell, self.x, self.states)
            cell(x[:, 0], states)

    def draw(self, cell: Any, purpose: str) -> list[np.ndarray]:
        """Returns random weights around the cell's initial ones, so that none is at zero."""
        rng, drawn = self.rng(purpose), []
        for weight in cell.weights:
            value = np.asarray(ops.convert_to_numpy(weight))
            if value.dtype.kind == "f":
                noise = 0.3 * rng.standard_normal(value.shape)
                variance = not weight.trainable and (value > 0).all()  # or the like: stays > 0
                value = value * np.exp(noise) if variance else value + noise
                if weight.constraint is not None:
                    kept = weight.constraint(ops.convert_to_tensor(value, dtype=weight.dtype))
                    value = np.asarray(ops.convert_to_numpy(kept))
            drawn.append(value)
        return drawn

    @contextmanager
    def _defaults(self, policy: str) -> Iterator[None]:
        """Inside, layers are made with a policy and, one by one, with other random numbers.

        Keras draws seeds of initializers from Python's `random`. Both are put back.
        """
        before, state = keras.config.dtype_policy(), random.getstate()
        self._made += 1
        random.seed(f"{self.seed} {self._made}")
        keras.config.set_dtype_policy(policy)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)
            random.setstate(state)

    def _copied(self, policy: str) -> Any:
        try:
            config = dict(self.given.get_config())
            config.update({"dtype": policy} if "dtype" in config else {})
            return type(self.given).from_config(config)
        except Exception as error:  # the check "config" tells it
            raise Skipped(
                "the cell's config makes no copy: give a function that makes the cell"
            ) from error


def assign(cell: Any, values: list[np.ndarray]) -> None:
    """Sets all weights of a cell."""
    for weight, value in zip(cell.weights, values, strict=True):
        weight.assign(ops.convert_to_tensor(value, dtype=weight.dtype))


def _no_cell(cell: Any) -> ValueError:
    return ValueError(
        "Argument `cell` must be a recurrent cell, a keras.Layer with `state_size` and "
        f"call(inputs, states), or a function that makes one. Received: {cell!r}."
    )


def _sizes(cell: Any) -> list[int]:
    """The sizes of a cell's states."""
    if not isinstance(cell, keras.Layer) or not hasattr(cell, "state_size"):
        raise _no_cell(cell)
    sizes = cell.state_size
    sizes = [sizes] if isinstance(sizes, int) else list(sizes)
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(
            "Argument `cell` must have a `state_size` of one integer > 0, or a list of such. "
            f"Received: state_size={cell.state_size!r}. Check the cells of a stack one by one."
        )
    return sizes


def _features(cell: Any) -> int:
    """The inputs that a built cell has; 3 for another."""
    built = (cell.get_build_config() or {}) if cell.built else {}
    shape = built.get("input_shape")
    return shape[-1] if shape else 3
