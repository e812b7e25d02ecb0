"""`CellCopies`: copies of the cell with the same random weights, and the data of all checks.

The cell itself is never run or changed. A copy is made from the cell's config, or by the function
that was passed in place of a cell. Keras draws initial values from global random numbers, so making
a copy sets them and puts them back: the result of a check depends on `seed` only.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gated.conformance.compare import Run, compare, rows_of
from keras_gated.conformance.report import Skipped
from keras_gated.conformance.run_cell import run, tensors


class CellCopies:
    """Makes copies of a cell, and holds inputs and initial states to run them on.

    Args:
        cell: a cell, which is copied by its config, or a function that makes one.
        input_dim: features of x_t, or None.
        batch_size, time: sizes of the inputs.
        seed: seed of weights, states and inputs.
        tolerance: the largest difference allowed, relative to max(1, |y|).

    Attributes:
        original: the cell; None if a function was passed.
        example: the cell, or one that the function made. Checks may look at it but not run it.
        sizes: sizes of the states.
        x: inputs (B, T, F).
        states: random initial states (B, U).

    Raises:
        ValueError: if `cell` is not a cell, or has nested states.
    """

    def __init__(self, cell: Any, input_dim, batch_size: int, time: int, seed: int, tolerance):
        if not callable(cell):
            raise _not_a_cell(cell)
        self.original: Any = cell if isinstance(cell, keras.Layer) else None
        self._source, self._count = cell, 0
        self.seed, self.tolerance = seed, tolerance
        self.example = self._call_function() if self.original is None else self.original
        self.sizes = _state_sizes(self.example)
        self.input_dim = input_dim or _features_of(self.example)
        rng = self.rng("inputs")
        self.x = rng.standard_normal((batch_size, time, self.input_dim))
        self.states = [0.7 * rng.standard_normal((batch_size, size)) for size in self.sizes]
        self._weights: list[np.ndarray] = []

    def rng(self, purpose: str) -> np.random.Generator:
        """Returns a generator that gives the same random numbers each time for one purpose."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def _call_function(self) -> Any:
        try:
            return self.unbuilt_copy()
        except TypeError as error:
            raise ValueError(
                "Argument `cell` must be a cell, or a function without arguments that makes one. "
                f"Received: {self._source!r}, which raises {error}. Pass e.g. lambda: MyCell(8)."
            ) from error

    def unbuilt_copy(self, policy: str = "float32") -> Any:
        """Returns a copy that is not built.

        Raises:
            Skipped: if the cell cannot be made from its config.
        """
        with self._making_cell(policy):
            cell: Any = self._source() if self.original is None else self._from_config(policy)
            if getattr(cell, "dtype_policy", None) and cell.dtype_policy.name != policy:
                cell.dtype_policy = policy
        return cell

    def copy(self, policy: str = "float32") -> Any:
        """Returns a built copy. All copies have the same weights."""
        cell = self.unbuilt_copy(policy)
        self.build(cell)
        self._weights = self._weights or self.random_weights(cell, "weights")
        assign(cell, self._weights)
        return cell

    def build(self, cell: Any) -> None:
        """Builds a cell as `keras.layers.RNN` does.

        It also runs one step, because a cell may have layers that are built only when they run.
        """
        with self._making_cell(cell.dtype_policy.name):
            if not cell.built:
                cell.build((len(self.x), self.input_dim))
                cell.built = True
            x, states = self.tensors(cell)
            cell(x[:, 0], states)

    def tensors(self, cell: Any) -> tuple[Any, list]:
        """Returns inputs and initial states as tensors, in the dtype in which a cell computes."""
        return tensors(cell, self.x, self.states)

    def run(self, cell: Any, x: Any = None, states: Any = None, mask: Any = None) -> dict:
        """Runs a cell eagerly, on `x` and `states` in place of those of all checks if given."""
        x = self.x if x is None else x
        return run(cell, x, self.states if states is None else states, mask)

    def compare(self, actual: Run, expected: Run, claim: str, rows: slice = slice(None)) -> float:
        """Returns the largest difference of two runs in some rows; raises `Failed` if too large.

        `claim` is how the message begins, e.g. "unrolled and looped differ".
        """
        return compare(rows_of(actual, rows), rows_of(expected, rows), self.tolerance, claim)

    def random_weights(self, cell: Any, purpose: str) -> list[np.ndarray]:
        """Returns weights with noise added to the initial ones, so that none of them is zero."""
        rng, weights = self.rng(purpose), []
        for weight in cell.weights:
            value = np.asarray(ops.convert_to_numpy(weight))
            if value.dtype.kind == "f":
                noise = 0.3 * rng.standard_normal(value.shape)
                # A variance of normalisation, or the like, must stay positive.
                is_variance = not weight.trainable and (value > 0).all()
                value = value * np.exp(noise) if is_variance else value + noise
                if weight.constraint is not None:
                    value = weight.constraint(ops.convert_to_tensor(value, dtype=weight.dtype))
                    value = np.asarray(ops.convert_to_numpy(value))
            weights.append(value)
        return weights

    @contextmanager
    def _making_cell(self, policy: str) -> Iterator[None]:
        """Inside, layers get a dtype policy and their own random numbers; both are restored.

        Keras draws the seeds of initializers from Python's `random`.
        """
        before, state = keras.config.dtype_policy(), random.getstate()
        self._count += 1
        random.seed(f"{self.seed} {self._count}")
        keras.config.set_dtype_policy(policy)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)
            random.setstate(state)

    def _from_config(self, policy: str) -> Any:
        try:
            config = dict(self.original.get_config())
            config.update({"dtype": policy} if "dtype" in config else {})
            return type(self.original).from_config(config)
        except Exception as error:  # the check "config" reports why
            raise Skipped(
                "the cell cannot be copied by its config: pass a function that makes the cell"
            ) from error


def assign(cell: Any, values: list[np.ndarray]) -> None:
    """Sets all weights of a cell."""
    for weight, value in zip(cell.weights, values, strict=True):
        weight.assign(ops.convert_to_tensor(value, dtype=weight.dtype))


def _not_a_cell(cell: Any) -> ValueError:
    return ValueError(
        "Argument `cell` must be a recurrent cell, which is a keras.Layer with `state_size` and "
        f"call(inputs, states), or a function that makes one. Received: {cell!r}."
    )


def _state_sizes(cell: Any) -> list[int]:
    if not isinstance(cell, keras.Layer) or not hasattr(cell, "state_size"):
        raise _not_a_cell(cell)
    sizes = cell.state_size
    sizes = [sizes] if isinstance(sizes, int) else list(sizes)
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(
            "Argument `cell` must have a `state_size` that is one integer > 0, or a list of them. "
            f"Received: state_size={cell.state_size!r}. Check the cells of a stack one by one."
        )
    return sizes


def _features_of(cell: Any) -> int:
    """The number of input features of a built cell; 3 for a cell that is not built."""
    built = (cell.get_build_config() or {}) if cell.built else {}
    shape = built.get("input_shape")
    return shape[-1] if shape else 3
