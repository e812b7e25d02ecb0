"""The weights of a cell: created as its specification says, read and set by gate.

Blocks of one kind lie side by side in one variable, in Keras's order, so that a step takes one
product for all of them, and `set_weights(keras_lstm.get_weights())` works. `block_weights` takes
them apart.
"""

from collections.abc import Mapping
from itertools import groupby
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_gated.engine.formula import Formula, split
from keras_gated.spec.config import Config
from keras_gated.spec.normal_form import NormalForm, Weight


class CellWeights(keras.layers.Layer):
    """The part of `GatedCell` that has to do with weights.

    Attributes:
        form: the cell's normal form.
        formula: its `Formula`.
        weight_layout: its weights in order, a tuple of `Weight`.
        normalizer: the BatchNormalization of the input's product, or None.
        units, projection_units: int, and int or None.
    """

    form: NormalForm
    formula: Formula
    weight_layout: tuple[Weight, ...]
    normalizer: Any
    units: int
    projection_units: int | None

    def build(self, input_shape):
        form = self.form
        if input_shape[-1] % form.window:
            raise ValueError(
                f"Argument `inputs` of {self.name} must have {form.window} x F features: the last "
                f"{form.window} inputs side by side. Received: shape={input_shape}. "
                "Use keras_gated.GatedRNN, which puts them side by side itself."
            )
        self._check_activations()
        self._is_matrix = {weight.name: weight.is_matrix for weight in self.weight_layout}
        inputs = input_shape[-1] // form.window
        shapes = form.shapes(inputs, self.units, self.projection_units)
        if self.projection_units:
            shapes["output_projection_kernel"] = (self.units, self.projection_units)
        for weight in self.weight_layout:
            arguments = self._arguments_of(weight)
            variable = self.add_weight(
                shape=shapes.get(weight.name, weight.shape(inputs, self.units)),
                name=weight.name,
                autocast=weight.is_matrix,
                **arguments,
            )
            setattr(self, weight.name, variable)
        if self.normalizer:
            self.normalizer.build((None, self.units * len(self.formula.names["kernel"])))
        self.built = True

    def _check_activations(self) -> None:
        """Raises a ValueError if an activation has weights: they would not be trained or saved."""
        for function in self.formula.functions:
            if isinstance(function, keras.Layer):
                if not function.built:
                    function.build((None, self.units))
                if function.weights:
                    raise ValueError(
                        f"An activation of {self.name} must have no weights of its own. Received: "
                        f"{type(function).__name__}. Put it after the layer, or use a function."
                    )

    def _arguments_of(self, weight: Weight) -> dict:
        """The initializer, regularizer and constraint of a weight."""
        kind = {"recurrent_kernel": "recurrent", "gate_recurrent_kernel": "recurrent"}.get(
            weight.keys[0], weight.keys[0]
        )
        if kind in ("kernel_gain", "recurrent_gain", "gain", "shift"):
            return {"initializer": "zeros" if kind == "shift" else "ones"}
        if kind == "decay":
            return {"initializer": self._initial_decay}
        if weight.name == "tie":
            return {"initializer": _initial_tie}
        initializer = getattr(self, f"{kind}_initializer")
        if weight.name == "bias":
            initializer = self._initial_bias
        elif weight.kernel and weight.kernel.initializer:
            initializer = getattr(self, weight.kernel.initializer)
        regularizer = getattr(self, f"{kind}_regularizer", None)
        constraint = getattr(self, f"{kind}_constraint", None)
        if weight.kernel and weight.kernel.is_stack:
            initializer = _each_matrix(initializer)
            regularizer = regularizer and _SumOverMatrices(regularizer)
            constraint = constraint and _EachConstrained(constraint)
        return {
            "initializer": initializer,
            "regularizer": regularizer,
            "constraint": constraint,
        }

    def _initial_bias(self, shape, dtype=None):
        """The initial bias of all blocks: a gate's own initializer, or the cell's.

        Neighbouring blocks without an initializer of their own are drawn in one call, as Keras
        does, so that a seeded initializer gives the same numbers.
        """
        own = [block.bias_initializer for block in self.form.blocks.values() if block.use_bias]
        if not any(own):
            return self.bias_initializer(shape, dtype=dtype)
        row = []
        for named, run in groupby(own):
            count = len(list(run))
            if named is None:
                row.append(self.bias_initializer((count * self.units,), dtype=dtype))
            else:
                draw = named if isinstance(named, str) else Config.thaw(named)
                draw = keras.initializers.get(draw)
                row += [draw((self.units,), dtype=dtype) for _ in range(count)]
        bias = ops.concatenate(row)
        if len(shape) == 1:
            return bias
        return ops.stack([bias, self.bias_initializer(shape[1:], dtype=dtype)])

    def _initial_decay(self, shape, dtype=None):
        """λ with which gates with a decay c lie in [0.9, 0.999] at most: exp(-c softplus(λ))."""
        rates = [block.decay for block in self.form.blocks.values() if block.decay]
        largest = keras.initializers.RandomUniform(0.9, 0.999)(shape, dtype=dtype)
        parts = zip(rates, ops.split(-ops.log(largest), len(rates)), strict=True)
        return ops.concatenate([ops.log(ops.expm1(part / rate)) for rate, part in parts])

    def _weights_with_variables(self):
        return ((weight, getattr(self, weight.name)) for weight in self.weight_layout)

    @property
    def tensors(self) -> dict[str, Any]:
        """The weights by name, as the formula takes them. Matrices are in the compute dtype."""
        types = {True: self.compute_dtype, False: self.variable_dtype}
        return {
            name: ops.convert_to_tensor(getattr(self, name), dtype=types[is_matrix])
            for name, is_matrix in self._is_matrix.items()
        }

    def block_weights(self) -> dict[str, dict[str, Any]]:
        """Returns the weights by gate.

        Returns:
            {"forget": {"kernel": (F, U), "recurrent_kernel": (U, U), "bias": (U,), "peephole":
            (U,)}, ..., "candidate": {..., "recurrent_bias": (U,)}}: tensors. Diagonal kernels are
            vectors (U,), kernels of n blocks are (n, F / n, U / n). "gate_recurrent_kernel" is (3,
            U, U), from the previous input, forget and output gates. With projection_units there is
            "output_projection": {"kernel": (U, P)}; with layer_norm each block with a kernel has
            "kernel_gain" (U,) and "recurrent_gain" (U,), and there is "memory": {"gain", "shift"}.
            A weight that does not exist has no key. The statistics of batch normalisation are in
            `cell.normalizer`.

        Raises:
            ValueError: if the cell is not built.
        """
        if not self.built:
            raise ValueError(
                f"{self.name} has no weights yet. Build it first: call it on data, or "
                "layer.build((None, None, features))."
            )
        # never the variable itself, even if there is one block
        pairs = self._weights_with_variables()
        return self.by_block({weight.name: ops.copy(variable.value) for weight, variable in pairs})

    def by_block(self, weights: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Returns weights in the structure of `block_weights`.

        Args:
            weights: tensors by name.
        """
        names = [*self.form.blocks, *(name for w in self.weight_layout for name in w.blocks)]
        blocks: dict[str, dict[str, Any]] = {name: {} for name in names}
        for weight in self.weight_layout:
            tensor = weights[weight.name]
            rows = ops.unstack(tensor, axis=0) if len(weight.keys) > 1 else [tensor]
            for key, row in zip(weight.keys, rows, strict=True):
                for name, part in split(weight.blocks, row).items():
                    if weight.sees == "gates":
                        part = ops.reshape(part, (-1, self.units, self.units))
                    blocks[name][key] = part
        return {name: parts for name, parts in blocks.items() if parts}

    def set_block_weights(
        self, blocks: Mapping[str, Mapping[str, Any]], strict: bool = True
    ) -> "BlockDifferences":
        """Sets the weights by gate.

        Args:
            blocks: arrays in the structure that `block_weights` returns, all of them.
            strict: bool. Whether the structures must be the same. If False, weights that only one
                side has are left as they are: so a cell with fewer gates takes the rest over from
                one with more.

        Returns:
            The weights that only one side has: none of either if `strict`.

        Raises:
            ValueError: if a weight is missing or unknown, or without `strict` if none is set; or
                if a shape differs.
        """
        own, received = _shapes(self.block_weights()), _shapes(blocks)
        shared = own.keys() & received.keys()
        missing, unexpected = (tuple(k for k in x if k not in shared) for x in (own, received))
        wrong = [k for k in shared if own[k] != received[k]]
        if wrong or not shared or (strict and (missing or unexpected)):
            only = "; strict=False sets those that both have" if strict and shared else ""
            raise ValueError(
                "Argument `blocks` must have the structure and shapes of block_weights()"
                f"{only if not wrong else ''}. Expected: {own}. Received: {received}."
            )
        old = self.block_weights() if missing else {}
        arrays = {(k, n): (blocks if (k, n) in shared else old)[k][n] for k, n in own}
        for weight, variable in self._weights_with_variables():
            rows = [
                ops.concatenate([_flat(arrays[name, key]) for name in weight.blocks], axis=-1)
                for key in weight.keys
            ]
            variable.assign(ops.reshape(ops.stack(rows), variable.shape))
        return BlockDifferences(missing, unexpected)


class BlockDifferences(NamedTuple):
    """The weights that only one side of `set_block_weights` has, each as (block, weight).

    Attributes:
        missing: of the cell, not among what was given: they stay as they were.
        unexpected: given, but not in the cell.
    """

    missing: tuple[tuple[str, str], ...]
    unexpected: tuple[tuple[str, str], ...]


def _initial_tie(shape, dtype=None):
    """ζ = 1 and ν = -4 of each tie with a trained scale, as in the authors' code of FastGRNN."""
    return ops.stack([ops.full(shape[1:], start, dtype=dtype) for start in (1.0, -4.0)])


def _each_matrix(initializer: Any):
    """Returns an initializer of a stack of matrices: each is drawn as a matrix of its own.

    An initializer with a seed gives the same numbers at each call, so each matrix has another seed.
    """

    def draw(shape, dtype=None):
        return ops.stack(
            [_with_seed(initializer, k)(shape[1:], dtype=dtype) for k in range(shape[0])]
        )

    return draw


def _with_seed(initializer: Any, k: int):
    """An initializer with its seed plus k; itself if it has no seed that is a number."""
    seed = getattr(initializer, "seed", None)
    if not isinstance(seed, int):
        return initializer
    return type(initializer).from_config(initializer.get_config() | {"seed": seed + k})


def _shapes(blocks: Mapping) -> dict[tuple[str, str], tuple]:
    """The shape of each weight, by (block, weight)."""
    return {(k, n): tuple(ops.shape(t)) for k, block in blocks.items() for n, t in block.items()}


def _flat(array):
    """A block as it lies in its variable; matrices of gate recurrence are stacked as rows."""
    array = ops.convert_to_tensor(array)
    return ops.reshape(array, (-1, array.shape[-1])) if len(array.shape) == 3 else array


# Classes, since Keras before 3.15 takes no functions here.


class _SumOverMatrices(keras.regularizers.Regularizer):
    """The sum of a regularizer over the matrices of a stack."""

    def __init__(self, regularizer):
        self.regularizer = regularizer

    def __call__(self, w):
        return sum(self.regularizer(matrix) for matrix in ops.unstack(w))


class _EachConstrained(keras.constraints.Constraint):
    """The stack of the matrices to which a constraint was applied."""

    def __init__(self, constraint):
        self.constraint = constraint

    def __call__(self, w):
        return ops.stack([self.constraint(matrix) for matrix in ops.unstack(w)])
