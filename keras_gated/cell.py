"""GatedCell: the weights that a specification asks for, and one step of its formula."""

from collections.abc import Mapping
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from keras_gated.argument_checks import check_arguments, warn_of_constants
from keras_gated.cell_weights import CellWeights
from keras_gated.engine.call import apply_zoneout
from keras_gated.engine.formula import (
    DropoutMasks,
    Tensors,
    cast_like,
    formula_of,
    product_by_block,
    split,
)
from keras_gated.engine.random_masks import normal
from keras_gated.layer_arguments import Activation, CellOptions, Configurable
from keras_gated.spec.activations import lookup
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.config import Config
from keras_gated.spec.from_arguments import serializable_spec, spec_with_arguments
from keras_gated.spec.normal_form import NormalForm, Weight, resolve
from keras_gated.spec.options import (
    NO_GATE_RECURRENCE,
    OPTIONS,
    check_options,
    option_weights,
    zoneout_rates_of,
)
from keras_gated.spec.parts import check_positive
from keras_gated.spec.preset_lookup import Preset, as_spec

# Keras's loop asks a cell for its dropout masks, and forgets them afterwards, if the cell has this
# base class of Keras's own cells.
DropoutMasksOfCell: Any = next(
    base for base in keras.layers.LSTMCell.__mro__ if "get_dropout_mask" in vars(base)
)


@keras.saving.register_keras_serializable("keras_gated")
class GatedCell(CellWeights, DropoutMasksOfCell):
    r"""GatedCell: one time step of any cell that is a setting of the formula.

    $$
    \begin{aligned}
    a_k &= W_k x_t + U_k h_{t-1} + p_k \odot c^* + b_k \\
    \tilde{c}_t &= g(W_c x_t + U_c (r_t \odot h_{t-1}) + b_c) \\
    c_t &= f_t \odot c_{t-1} + i_t \odot \tilde{c}_t \\
    h_t &= o_t \odot \varphi(c_t)
    \end{aligned}
    $$

    Conventions: blocks in the order input, forget, reset, candidate, output, absent and tied ones
    left out; f is the share of the old memory that stays; with `reset_after` the reset gate
    multiplies the product `U_c h`, not h.

    Args:
        units: int > 0. Size U of each state.
        spec: name of a preset, a `Preset`, a `CellSpec`, or the config of one.
        activation: name or function g of the candidate. None, here and below: as in `spec`.
        recurrent_activation: of the gates that name no activation of their own.
        output_activation: φ. If neither this nor `spec` gives one, as `activation`.
        use_bias: bool, the default for the gates and the candidate whose own `use_bias` is None.
        reset_after: bool. Whether the reset gate acts after the recurrent product.
        kernel_initializer, recurrent_initializer, bias_initializer: as in Keras. If a gate
            has a `bias_initializer` of its own, that one is used.
        peephole_initializer: of the peepholes.
        diagonal_initializer: of diagonal kernels, recurrent or not; by default uniform in [0, 1],
            and None in a cell that has none.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: as in Keras.
        kernel_constraint, recurrent_constraint, bias_constraint: as in Keras.
        dropout: float in [0, 1). Share of inputs dropped in training, one mask per sequence.
        recurrent_dropout: the same for `h_{t-1}`, one mask for all blocks (with recurrent_dropout
            Keras draws one for each block). Both act inside `keras.layers.RNN` too. As in Keras,
            1.0 drops nothing.
        candidate_dropout: float in [0, 1). Share of the candidate dropped in training inside a
            `GatedRNN`, one mask per sequence; the memory itself is not dropped (Semeniuta, Severyn
            and Barth 2016, arXiv:1603.05118).
        zoneout: float in [0, 1), or one for each state: the probability that a unit keeps its old
            state in a time step, in training inside a `GatedRNN`; at inference the state is the
            expectation (Krueger et al. 2017, arXiv:1606.01305). The output is h after zoneout.
        weight_noise: float >= 0. Standard deviation of the noise added to the dense kernels in
            training, drawn once per batch inside a `GatedRNN` (Graves 2011).
        state_clip: float > 0, the largest absolute value of the memory, in training and at
            inference, or None.
        layer_norm: bool. Whether each product with a dense kernel is normalised over all its
            columns and multiplied by a gain, and the memory that the output reads is normalised
            with gain and shift (Ba, Kiros and Hinton 2016, arXiv:1607.06450; ε is 1e-5). The
            product of gate recurrence is not normalised.
        batch_norm: bool. Whether the product of the input is normalised over batch and time, by
            `keras.layers.BatchNormalization` with a gain; the bias is its shift (LiGRU, Ravanelli
            et al. 2018, arXiv:1803.10225). Masked time steps do not count.
        projection_units: int > 0, or None. Size P of the output `h_t = W_p (o_t ⊙ φ(c_t))`, which
            the gates read too (Sak, Senior and Beaufays 2014, arXiv:1402.1128); for memory="cell".
        seed: int, of all random masks and noise. For one seed, XLA draws other numbers than
            TensorFlow without XLA.

    Call arguments:
        inputs: float tensor (B, F), or (B, k F) for a cell with a window of k time steps: `x_t`
            first, then `x_{t-1}`, and so on.
        states: list of float tensors (B, U): [h, c], or [h] with `memory="hidden"`; [h, c, n, m]
            with a normaliser. With projection_units h is (B, P).

    Returns:
        The output, which is h, and the list of new states, in the type of the given states.

    Raises:
        ValueError: if units <= 0, if the preset is unknown, if options exclude each other, or if a
            diagonal or identity kernel does not fit the input.

    Example:
        >>> x = np.ones((4, 10, 8), "float32")                  # (B, T, F)
        >>> y = keras.layers.RNN(kg.GatedCell(32, "mgu"))(x)
        >>> tuple(y.shape)
        (4, 32)
    """

    def __init__(
        self,
        units: int,
        spec: str | CellSpec | Preset | Mapping = "lstm",
        *,
        activation: Activation = None,
        recurrent_activation: Activation = None,
        output_activation: Activation = None,
        use_bias: bool | None = None,
        reset_after: bool | None = None,
        kernel_initializer: Configurable = "glorot_uniform",
        recurrent_initializer: Configurable = "orthogonal",
        bias_initializer: Configurable = "zeros",
        peephole_initializer: Configurable = "zeros",
        diagonal_initializer: Configurable = None,
        kernel_regularizer: Configurable = None,
        recurrent_regularizer: Configurable = None,
        bias_regularizer: Configurable = None,
        kernel_constraint: Configurable = None,
        recurrent_constraint: Configurable = None,
        bias_constraint: Configurable = None,
        seed: int | None = None,
        **kwargs: Unpack[CellOptions],
    ):
        of_layer: dict[str, Any] = dict(kwargs)
        check_arguments(self, of_layer, CellOptions.__annotations__)
        options = {name: of_layer.pop(name) for name in OPTIONS if name in of_layer}
        super().__init__(**of_layer)
        self.autocast = False  # under mixed precision the states keep their 32 bits
        self.units = _checked_units(units)
        self.spec = spec_with_arguments(
            spec if isinstance(spec, CellSpec) else as_spec(spec),
            activation=activation,
            recurrent_activation=recurrent_activation,
            output_activation=output_activation,
            use_bias=use_bias,
            reset_after=reset_after,
        )
        warn_of_constants(self.spec)
        self.form: NormalForm = resolve(self.spec)
        get = keras.initializers.get
        self.kernel_initializer = get(kernel_initializer)
        self.recurrent_initializer = get(recurrent_initializer)
        self.bias_initializer = get(bias_initializer)
        self.peephole_initializer = get(peephole_initializer)
        # Made only where it is used: it draws a seed, and later layers would start differently.
        kernels = (weight.kernel for weight in self.form.weights if weight.kernel)
        used = any(kernel.initializer == "diagonal_initializer" for kernel in kernels)
        if diagonal_initializer is None and used:
            diagonal_initializer = keras.initializers.RandomUniform(0.0, 1.0)
        self.diagonal_initializer = get(diagonal_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.draws_masks = True  # False inside a GatedRNN, which draws them
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed=seed)
        more = self._set_options(options)
        self.output_size = self.projection_units or self.units
        self.state_size = [self.output_size] + [self.units] * (len(self.form.states) - 1)
        self.formula = formula_of(self.form, self.state_clip, more)
        self.weight_layout = (*self.form.weights, *more)
        self.normalizer = self._batch_norm() if self.batch_norm else None

    def _set_options(self, given: dict[str, Any]) -> tuple[Weight, ...]:
        """Sets the options that are given, and the others to their defaults.

        Returns the weights that they add.
        """
        self.zoneout_rates: tuple = ()
        if "zoneout" in given:  # as it was given: rates of 0 may be wrong, too
            self.zoneout_rates = zoneout_rates_of(given["zoneout"], self.form.states)
        for name, row in OPTIONS.items():
            value = row.check(given[name], name) if name in given else row.default
            setattr(self, name, value)
        if not (on := self.options()):
            return ()
        check_options(self.form, on)
        return option_weights(self.form, self.layer_norm, self.projection_units)

    def _batch_norm(self):
        return keras.layers.BatchNormalization(
            center=False, dtype=self.dtype_policy, trainable=self.trainable, name="batch_norm"
        )

    # One step

    def call(self, inputs, states, training=False):
        weights, dropout = self.tensors, DropoutMasks()
        wide = [ops.cast(state, self.variable_dtype) for state in states]
        if training:
            self._check_alone()
            mask = self.get_dropout_mask(inputs)
            inputs = inputs if mask is None else inputs * mask
            mask = self.get_recurrent_dropout_mask(wide[0])
            dropout = DropoutMasks(None if mask is None else cast_like(mask, wide[0]))
        _, new = self.formula.step(weights, self.input_terms(weights, inputs), wide, dropout)
        new = apply_zoneout(self.zoneout_rates, new, wide)
        new = self.formula.states_in(keras.backend.standardize_dtype(states[0].dtype), new)
        new = [cast_like(n, s) for n, s in zip(new, states, strict=True)]
        return new[0], new

    def input_terms(self, weights, x, product=product_by_block, mask=None, training=False) -> dict:
        """Returns the input term `W_k φ_x(x)` of each block that has one, after batch_norm.

        Args:
            weights: tensors by name.
            x: the inputs, with any leading axes.
            product: as in `Formula.input_terms`.
            mask: tensor of the leading axes, 0 or False at masked time steps, or None.
            training: bool, whether batch_norm takes the statistics of x.
        """
        terms = self.formula.input_terms(weights, x, product)
        if self.normalizer is None:
            return terms
        names = self.formula.names["kernel"]
        joint = ops.concatenate([terms[name] for name in names], axis=-1)
        flat = ops.reshape(joint, (-1, joint.shape[-1]))
        mask = None if mask is None else ops.reshape(ops.cast(mask, "bool"), (-1,))
        found = self.normalizer(flat, training=training, mask=mask)
        return terms | split(names, ops.reshape(found, ops.shape(joint)))

    def options(self, column: str = "name") -> dict[str, Any]:
        """Returns the options that are on, with their values.

        Args:
            column: of the table of options: only those of which the row has something there.
        """
        rows = {name: row for name, row in OPTIONS.items() if getattr(row, column)}
        values = {name: getattr(self, name) for name in rows}
        nothing = {"dropout": 1.0, "recurrent_dropout": 1.0}  # as in Keras
        return {k: v for k, v in values.items() if np.any(v or 0) and v != nothing.get(k)}

    def get_dropout_mask(self, step_input):
        """Returns the mask of the inputs, the same until Keras's loop resets it, or None."""
        return super().get_dropout_mask(step_input) if self._draws(self.dropout) else None

    def get_recurrent_dropout_mask(self, step_input):
        """Returns the mask of h, the same until Keras's loop resets it, or None."""
        drawn = self._draws(self.recurrent_dropout)
        return super().get_recurrent_dropout_mask(step_input) if drawn else None

    def _draws(self, rate: float) -> bool:
        return self.draws_masks and 0.0 < rate < 1.0

    @property
    def options_of_a_layer(self) -> dict[str, Any]:
        """The options that are on and that training needs a `GatedRNN` for."""
        own = DRAWN_BY_CELL if self.draws_masks else ()
        return {k: v for k, v in self.options("drawn").items() if k not in own}

    def _check_alone(self) -> None:
        """Raises a ValueError if an option needs more in training than a step: a layer has it."""
        if given := self.options_of_a_layer:
            raise ValueError(
                f"Arguments {', '.join(f'`{name}`' for name in given)} of a GatedCell work in "
                "training only inside a keras_gated.GatedRNN, which draws masks for the whole "
                f"sequence. Received: {', '.join(f'{k}={v}' for k, v in given.items())} in another "
                "layer. Use GatedRNN, GatedLSTM or GatedGRU, or remove them."
            )

    @property
    def stepwise_option(self) -> str | None:
        """An option that acts in each time step at inference too, or None."""
        return _first(self.options("stepwise"))

    @property
    def sequential_option(self) -> str | None:
        """An option that needs time steps one after another, or None."""
        return self.stepwise_option or _first(self.options("automatic"))

    @property
    def native_options(self) -> list[str]:
        """How a native ONNX operator includes the options that are on."""
        return [
            str(OPTIONS[name].in_native_operator) for name in self.options("in_native_operator")
        ]

    @property
    def parallel_in_time(self) -> bool:
        """Whether all time steps can be computed at once."""
        return self.form.linear_memory and not self.sequential_option

    @property
    def newton_in_time(self) -> bool:
        """Whether Newton's method can find the states of all time steps at once."""
        return self.form.unit_by_unit and not self.automatic_reason

    @property
    def automatic_reason(self) -> str | None:
        """Why the backend differentiates the loop over time; None if the engine does."""
        if self.form.gate_recurrence:
            return NO_GATE_RECURRENCE
        if not any(block.kernel for block in self.form.blocks.values()):
            return "no block sees the input through a kernel"
        if not self.formula.elementwise:
            return "an activation is not known to be elementwise"
        return next((f"the engine has no gradient of {k}" for k in self.options("automatic")), None)

    def noisy_tensors(self) -> Tensors:
        """Returns the weights by name, the matrices with noise drawn for a batch."""
        tensors = self.tensors
        for weight in self.weight_layout:
            if weight.is_matrix:
                w = tensors[weight.name]
                noise = normal(w.shape, self.seed_generator, self.weight_noise, self.compute_dtype)
                tensors[weight.name] = w + noise
        return tensors

    def get_initial_state(self, batch_size=None):
        """Returns zeros (B, U) for each state."""
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in self.state_size]

    # Under Keras's names

    @property
    def activation(self):
        """The candidate's activation, as a function."""
        return lookup(self.spec.candidate.activation).function

    @property
    def recurrent_activation(self):
        """The activation of the gates that name none of their own, as a function."""
        return lookup(self.spec.recurrent_activation).function

    @property
    def output_activation(self):
        """The activation of the output, as a function."""
        return lookup(self.form.output_activation).function

    @property
    def use_bias(self) -> bool:
        """Whether gates and candidate whose own `use_bias` is None have a bias."""
        return self.spec.use_bias

    @property
    def reset_after(self) -> bool:
        """Whether a reset gate acts after the recurrent product."""
        return self.spec.candidate.reset_after

    # Keras has these for dense layers only

    def quantize(self, mode=None, **kwargs):
        raise NotImplementedError(
            f"{self.name} cannot be quantised in Keras. Received: mode={mode!r}. Export it in "
            "int8 with keras_gated.quantize_onnx(model, path)."
        )

    def enable_lora(self, rank=None, **kwargs):
        raise NotImplementedError(
            f"{self.name} has no LoRA. Received: rank={rank!r}. Set `trainable = False` on the "
            "layers that must not change, and train the rest."
        )

    # Saving

    def load_own_variables(self, store):
        """Loads the weights from a file, as Keras calls it."""
        if self.weights and not store.keys():
            raise ValueError(
                "Argument `filepath` must be a file of weights of a model with gated layers in the "
                f"same places. Received: a file that has no weights for {self.name}. If the model "
                "in it has Keras's own layers: load it into that model, and convert the model with "
                "keras_gated.from_keras(model)."
            )
        super().load_own_variables(store)

    def get_config(self):
        return {**super().get_config(), **self.arguments()}

    def arguments(self) -> dict:
        """Returns JSON-ready arguments that make an equal cell, without those of any Layer."""
        spec, keep = serializable_spec(self.spec), keras.saving.serialize_keras_object
        return {
            "units": self.units,
            "spec": spec.to_config(),
            "activation": Config.thaw(spec.candidate.activation),
            "recurrent_activation": Config.thaw(spec.recurrent_activation),
            "output_activation": Config.thaw(spec.output_activation),
            "use_bias": spec.use_bias,
            "reset_after": spec.candidate.reset_after,
            **{name: keep(getattr(self, name)) for name in SERIALIZED},
            **{name: getattr(self, name) for name in OPTIONS},
            "seed": self.seed,
        }


def _checked_units(units: Any) -> int:
    if isinstance(units, str | CellSpec | Preset):
        raise ValueError(
            "Argument `units` must be an integer > 0, and it comes first. "
            f"Received: units={units!r}. Write GatedRNN(32, {units!r})."
        )
    return check_positive(units, "units")


def _first(options: dict) -> str | None:
    return next((f"{name}={value}" for name, value in options.items()), None)


DRAWN_BY_CELL = ("dropout", "recurrent_dropout")  # by the cell itself, if it is in another layer
SERIALIZED = (
    "kernel_initializer",
    "recurrent_initializer",
    "bias_initializer",
    "peephole_initializer",
    "diagonal_initializer",
    "kernel_regularizer",
    "recurrent_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "recurrent_constraint",
    "bias_constraint",
)
