"""The layers: GatedRNN runs a gated cell over a sequence; GatedLSTM and GatedGRU name its gates.

`GatedRNN.inner_loop` is where Keras hands over: it draws masks, makes the input window and gives
`engine.run` a `RecurrentCall`. The rest is Keras's: states, masks, Bidirectional, saving.
"""

from dataclasses import replace
from inspect import signature
from typing import Any, Unpack

import keras
from keras import ops

from keras_gated.argument_checks import check_arguments
from keras_gated.call_arguments import mask_of_call, starts_of_call, states_of_call
from keras_gated.cell import GatedCell
from keras_gated.cell_weights import BlockDifferences
from keras_gated.engine.call import RandomMasks, RecurrentCall, TimeSteps
from keras_gated.engine.input_window import stack_window
from keras_gated.engine.random_masks import draw_masks
from keras_gated.engine.run import run
from keras_gated.layer_arguments import Activation, GateLayerArguments, SpecArguments
from keras_gated.spec.activations import identify
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.config import to_json_value
from keras_gated.spec.from_arguments import serializable_spec
from keras_gated.spec.options import OPTIONS
from keras_gated.spec.parts import Candidate, Gate, Tied, as_gate, check_bool

# All but self and kwargs, and the options.
CELL_ARGUMENTS = (*tuple(signature(GatedCell.__init__).parameters)[1:-1], *OPTIONS)
OWN_ARGUMENTS = ("time_parallel", "use_cudnn", "implementation")


@keras.saving.register_keras_serializable("keras_gated")
class GatedRNN(keras.layers.RNN):
    r"""GatedRNN: any cell that is a setting of the formula, run over a sequence.

    $$
    \begin{aligned}
    a_k &= W_k x_t + U_k h_{t-1} + p_k \odot c^* + b_k \\
    \tilde{c}_t &= g(W_c x_t + U_c (r_t \odot h_{t-1}) + b_c) \\
    c_t &= f_t \odot c_{t-1} + i_t \odot \tilde{c}_t \\
    h_t &= o_t \odot \varphi(c_t)
    \end{aligned}
    $$

    Conventions: blocks in the order input, forget, reset, candidate, output; f is the share of the
    old memory that stays. A masked time step repeats the output and the states of the step before;
    before the first valid step the output is 0. The arguments of the cell can be read under Keras's
    names: `layer.units`, `layer.activation`, `layer.kernel_initializer`, and so on.
    Differs from Keras: the loop over time has its own gradient. It has no forward-mode derivative
    on JAX, and on torch no second derivative and no `torch.func`; nor has Newton's method
    (`time_parallel`) a second derivative on JAX. The backend differentiates the
    loop of a layer with `unroll=True`, and of a cell with gate recurrence, layer normalisation or a
    projected output, without a kernel for the input, or with an activation that is not known to be
    elementwise.

    Args:
        units: int > 0. Size U of each state.
        spec: name of a preset (`list(keras_gated.presets)`), a `Preset`, or a `CellSpec`.
        return_sequences: bool. Whether to return the output of every time step.
        return_state: bool. Whether to return the last states too.
        go_backwards: bool. Whether to run from the last time step to the first.
        stateful: bool. Whether the last states are the initial ones of the next batch.
        unroll: bool. Whether to unroll the loop over time.
        zero_output_for_mask: bool. Whether the output of a masked time step is zero.
        time_parallel: bool or "auto". Whether all time steps are computed at once, by an
            associative scan in O(log T) depth: for cells whose gates and candidate see only x_t
            (min_gru, the QRNN family, ...). With True also for cells whose recurrent kernels are
            all diagonal or identity (para_gru, para_lstm, ind_rnn, brc): rounds of Newton's method,
            or the loop if 24 rounds are not enough. True is an error for others. "auto" does so on
            an accelerator if gates and candidate see only x_t. Where the length is unknown when
            the graph is built, a cell with a linear memory runs in the loop, with True as well; and
            so do others under a dtype policy with states of 16 bits.
        use_cudnn: "auto", True or False; saved with the layer. "auto" and False leave the choice to
            the package: XLA, and on torch its operators. True lets cuDNN alone run the layer: on
            JAX a cell that is an LSTM to ONNX (sigmoid gates, tanh, no peephole; gates may be
            absent or tied) in float32, without a mask or with `lengths`; on torch what its
            operators compute; on TensorFlow nothing. Where cuDNN cannot run it, running it is an
            error. To load and trace it, and for `keras_gated.export_onnx`, no cuDNN is needed;
            Keras's `model.export` needs "auto".
        implementation: 0, 1 or 2, as in Keras, and saved. It changes nothing.
        **kwargs: every argument of `GatedCell` (activations, initializers, options such as
            dropout, seed, ...) and of `keras.layers.Layer` (name, dtype, ...).

    Call arguments:
        sequences: float tensor (B, T, F).
        initial_state: list of tensors (B, U), or None for zeros: [h, c], or [h] with
            `memory="hidden"`; [h, c, n, m] with a normaliser. A cell with an input window of k has
            one more, (B, (k-1) F): the inputs before the first. One row, (1, U) or (U,), stands for
            all sequences.
        mask: bool tensor (B, T) or (B, T, 1), False at time steps to skip. Pass it as in Keras, or
            use a layer that sets one (`Masking`, `Embedding(mask_zero=True)`).
        training: bool, whether dropout, zoneout and noise are on, and batch normalisation takes
            the statistics of the batch.
        lengths: int tensor (B,): only the first `lengths` time steps of each row count. With a mask
            too, a step counts if both say so. It is not passed on: give it to the next layer too.
            Numbers out of [0, T] give a warning, unless the call is compiled.
        resets: bool tensor (B, T), True at time steps where a sequence begins inside a row, in the
            order of the sequences. That step starts from zero states, also if it is masked, and
            whatever `initial_state` says. With go_backwards the step before the mark starts from
            zero states: the last one of the sequence before. It is not passed on: give it to the
            next layer too.

    Returns:
        (B, T, U) with return_sequences, else (B, U); with return_state a list of it and the states.
        With projection_units P the output and h have P in place of U.

    Raises:
        ValueError: if units <= 0, the preset is unknown, the input has not rank 3, or a diagonal
            or identity kernel does not fit the input.

    Example:
        >>> x = np.ones((4, 10, 8), "float32")                   # (B, T, F)
        >>> y = kg.GatedRNN(32, "mgu", return_sequences=True)(x)
        >>> tuple(y.shape)
        (4, 10, 32)
    """

    def __init__(
        self,
        units: int,
        spec: Any = "lstm",
        *,
        time_parallel: bool | str = False,
        **kwargs: Unpack[SpecArguments],
    ):
        given: dict[str, Any] = dict(kwargs)
        check_arguments(self, given, SpecArguments.__annotations__)
        ways = given.pop("use_cudnn", "auto"), given.pop("implementation", 2)
        own = {name: given.pop(name) for name in CELL_ARGUMENTS if name in given}
        shared = {k: v for k, v in given.items() if k in ("dtype", "trainable")}
        cell = GatedCell(units, spec, **own, **shared, name="gated_cell")
        cell.draws_masks = False
        super().__init__(cell, **given)
        self.supports_masking = True
        self.time_parallel = self._checked(time_parallel)
        self.use_cudnn, self.implementation = ways
        self._check_ways()

    _open_time = False  # whether the sequences may have any length; known when the layer is built

    def _checked(self, time_parallel):
        if not isinstance(time_parallel, bool) and time_parallel != "auto":
            raise ValueError(
                "Argument `time_parallel` must be True, False or 'auto'. "
                f"Received: time_parallel={time_parallel!r}."
            )
        if time_parallel is True and (problem := self._why_not_parallel()):
            raise ValueError(problem)
        return time_parallel

    def _why_not_parallel(self) -> str | None:
        """Why `time_parallel=True` is an error; None if it is not."""
        cell, by_unit = self.cell, self.cell.form.unit_by_unit
        if not (cell.form.linear_memory or by_unit):
            return (
                "Argument `time_parallel` can be True only for a cell whose gates and candidate "
                "see only x_t and whose memory has no activation, such as 'min_gru' or 'qrnn_f', "
                "or whose recurrent kernels are all diagonal or identity, such as 'para_gru'. "
                f"Received: time_parallel=True with spec={cell.spec!r}. Use 'auto' or False."
            )
        if self.unroll:
            return (
                "Arguments `time_parallel` and `unroll` exclude each other: there is no loop to "
                "unroll. Received: time_parallel=True, unroll=True."
            )
        option, reason = cell.sequential_option, cell.automatic_reason
        both = f"Arguments `time_parallel=True` and `{option}` exclude each other"
        if by_unit and reason:
            what = both if option else "Argument `time_parallel` cannot be True for this cell"
            return (
                f"{what}: Newton's method in time needs the slopes of each unit alone. Received: "
                f"time_parallel=True, where {reason}. Use time_parallel=False."
            )
        if not by_unit and option:
            return f"{both}: the option needs time steps one after another. Remove one of the two."
        return None

    def _check_ways(self) -> None:
        """Raises a ValueError unless `use_cudnn` and `implementation` have values of Keras."""
        values = {"use_cudnn": ("auto", True, False), "implementation": (0, 1, 2)}
        for name, known in values.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"Argument `{name}` must be one of {', '.join(map(repr, known))}. "
                    f"Received: {name}={getattr(self, name)!r}."
                )

    @property
    def _must_use_cudnn(self) -> bool:
        return self.use_cudnn not in ("auto", False)

    def block_weights(self) -> dict[str, dict[str, Any]]:
        """Returns the weights by gate; see `GatedCell.block_weights`."""
        return self.cell.block_weights()

    def set_block_weights(self, blocks, strict: bool = True) -> BlockDifferences:
        """Sets the weights by gate; see `GatedCell.set_block_weights`."""
        return self.cell.set_block_weights(blocks, strict)

    # Running over time

    def build(self, sequences_shape, initial_state_shape=None):
        self._check_rank(sequences_shape)
        window, features = self.cell.form.window, sequences_shape[-1]
        self._open_time = sequences_shape[1] is None
        if features is None:
            raise ValueError(
                f"Argument `sequences` of {self.name} must have a known number of features. "
                f"Received: shape={tuple(sequences_shape)}. Give the last axis a size, e.g. "
                "keras.Input((None, 8))."
            )
        if not self.cell.built:
            self.cell.build((sequences_shape[0], window * features))
        if window > 1:
            self.state_size = [*self.cell.state_size, (window - 1) * features]
        self.input_spec = keras.layers.InputSpec(axes={-1: features})
        super().build(sequences_shape, initial_state_shape)

    def call(
        self,
        sequences,
        initial_state=None,
        mask=None,
        training=False,
        lengths=None,
        resets=None,
        sequences_mask=None,  # Keras puts the mask here if there are more tensors; False: none
    ):
        self._check_rank(sequences.shape)
        mask = sequences_mask if mask is None and sequences_mask is not False else mask
        masked = mask is not None
        mask = mask_of_call(self, sequences, mask, lengths)
        if resets is not None:  # Keras passes what it gets as a mask on to `inner_loop`, as it is
            mask = TimeSteps(mask, starts_of_call(self, sequences, resets))
        elif self._must_use_cudnn and lengths is not None and not masked:
            mask = TimeSteps(mask, at_end=True)
        return super().call(
            sequences,
            initial_state=states_of_call(self, sequences, initial_state),
            mask=mask,
            training=training,
        )

    def _check_rank(self, shape) -> None:
        if len(shape) != 3:
            raise ValueError(
                f"Argument `sequences` of {self.name} must have rank 3: (batch, time, features). "
                f"Received: shape={tuple(shape)}. Add the missing axis, e.g. x[None] for one "
                "sequence or x[..., None] for one feature."
            )

    def get_initial_state(self, batch_size):
        """Returns zeros (B, U) for each state, and (B, (k-1) F) for a window of k time steps."""
        zeros = self.cell.get_initial_state(batch_size)
        more = self.state_size[len(zeros) :]
        return zeros + [ops.zeros((batch_size, n), dtype=self.cell.compute_dtype) for n in more]

    def inner_loop(self, sequences, initial_state, mask, training=False):
        steps = mask if isinstance(mask, TimeSteps) else TimeSteps(mask)
        count = len(self.cell.state_size)
        if self.stateful:  # torch would overwrite the states that the gradient needs
            initial_state = [ops.copy(state) for state in initial_state]
        states, before = initial_state[:count], initial_state[count:]
        states = [ops.cast(state, self.variable_dtype) for state in states]
        drawn = RandomMasks(zoneout=self.cell.zoneout_rates)
        if training and self.cell.options("drawn"):
            sequences, drawn = draw_masks(self.cell, sequences, states)
        if before:
            window = self.cell.form.window
            sequences, before[0] = stack_window(
                sequences, before[0], steps.mask, window, self.go_backwards, steps.starts
            )
        last, outputs, states = run(self._call(sequences, states, steps, drawn))
        states = self.cell.formula.states_in(self.compute_dtype, states)  # Keras stores them so
        return last, outputs, [*states, *before]

    def _call(self, sequences, states, steps: TimeSteps, drawn: RandomMasks) -> RecurrentCall:
        """What the engine is to run."""
        noisy = drawn.training and self.cell.weight_noise
        return RecurrentCall(
            layer=self,
            cell=self.cell,
            weights=self.cell.noisy_tensors() if noisy else self.cell.tensors,
            sequences=sequences,
            states=states,
            mask=steps.mask,
            starts=steps.starts,
            drawn=drawn,
            go_backwards=self.go_backwards,
            return_sequences=self.return_sequences,
            zero_output_for_mask=self.zero_output_for_mask,
            unroll=self.unroll,
            time_parallel=self.time_parallel,
            use_cudnn=self._must_use_cudnn,
            masked_at_end=steps.at_end,
            open_time=self._open_time,
        )

    def compute_mask(self, _, mask):
        """Returns the mask of the outputs: that of the sequences, in the order of the outputs."""
        # Keras 3.16 drops the mask here: a second layer would then run over the padding. Earlier
        # versions keep it in the order of the inputs, though a backward layer gives the last first.
        mask = keras.tree.flatten(mask)[0] if self.return_sequences else None
        mask = ops.flip(mask, axis=1) if mask is not None and self.go_backwards else mask
        return [mask, *(None for _ in self.state_size)] if self.return_state else mask

    quantize, enable_lora = GatedCell.quantize, GatedCell.enable_lora  # both raise

    # Saving

    def get_config(self):
        config = super().get_config()
        del config["cell"]
        regularizer = keras.regularizers.serialize(self.activity_regularizer)
        own = {"activity_regularizer": regularizer}
        own |= {name: getattr(self, name) for name in OWN_ARGUMENTS}
        return {**config, **own, **self.cell.arguments()}

    def _gates(self, *names: str) -> dict[str, Any]:
        """Gates of the specification, JSON-ready, by the argument of that name."""
        spec = serializable_spec(self.cell.spec)
        return {f"{name}_gate": to_json_value(spec.gate(name)) for name in names}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _of_cell(name: str) -> property:
    return property(lambda self: getattr(self.cell, name), doc=f"`{name}` of the layer's cell.")


for _name in CELL_ARGUMENTS:
    setattr(GatedRNN, _name, _of_cell(_name))


@keras.saving.register_keras_serializable("keras_gated")
class GatedLSTM(GatedRNN):
    r"""GatedLSTM: an LSTM each of whose gates can be present, absent, tied or cut down.

    $$
    \begin{aligned}
    i_t &= \sigma(W_i x_t + U_i h_{t-1} + p_i \odot c_{t-1} + b_i) \\
    f_t &= \sigma(W_f x_t + U_f h_{t-1} + p_f \odot c_{t-1} + b_f) \\
    \tilde{c}_t &= g(W_c x_t + U_c h_{t-1} + b_c) \\
    c_t &= f_t \odot c_{t-1} + i_t \odot \tilde{c}_t \\
    o_t &= \sigma(W_o x_t + U_o h_{t-1} + p_o \odot c_t + b_o) \\
    h_t &= o_t \odot \varphi(c_t)
    \end{aligned}
    $$

    With default arguments it is `keras.layers.LSTM`: same weights in the same order and shape,
    same numbers.

    Args:
        units: int > 0. Size U of each state.
        activation: name or function g of the candidate.
        recurrent_activation: name or function of the gates.
        use_bias: bool.
        unit_forget_bias: bool. Whether the forget gate's bias starts at 1.
        input_gate, forget_gate, output_gate: True (present), False (absent, 1.0), a number
            (constant), a `Gate` or a `Tied`.
        peephole: bool. Whether the gates given as True see the memory cell.
        output_activation: name or function φ; None is `activation`.
        **kwargs: as `GatedRNN`.

    Call arguments, Returns, Raises: as `GatedRNN`; the states are [h, c].

    Example:
        >>> x = np.ones((4, 10, 8), "float32")                   # (B, T, F)
        >>> coupled = kg.Tied("forget", complement=True)         # i = 1 - f
        >>> y = kg.GatedLSTM(32, input_gate=coupled)(x)
        >>> tuple(y.shape)
        (4, 32)

    References:
        - Gers, Schmidhuber and Cummins, "Learning to forget", 2000.
        - Greff et al., "LSTM: a search space odyssey", 2017. arXiv:1503.04069.
    """

    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        use_bias: bool = True,
        *,
        unit_forget_bias: bool = True,
        input_gate: Any = True,
        forget_gate: Any = True,
        output_gate: Any = True,
        peephole: bool = False,
        output_activation: Activation = None,
        **kwargs: Unpack[GateLayerArguments],
    ):
        check_arguments(self, dict(kwargs), GateLayerArguments.__annotations__)
        check_bool(unit_forget_bias, "unit_forget_bias")
        gates = {"input_gate": input_gate, "forget_gate": forget_gate, "output_gate": output_gate}
        gates: dict[str, Any] = {
            name: Gate(peephole=peephole) if value is True else as_gate(value, name)
            for name, value in gates.items()
        }
        forget = gates["forget_gate"]
        if unit_forget_bias and isinstance(forget, Gate) and forget.bias_initializer is None:
            gates["forget_gate"] = replace(forget, bias_initializer="ones")
        super().__init__(
            units,
            CellSpec(**gates),
            activation=identify(activation),
            recurrent_activation=identify(recurrent_activation),
            use_bias=use_bias,
            output_activation=output_activation,
            **kwargs,
        )
        self.unit_forget_bias, self.peephole = unit_forget_bias, peephole

    def get_config(self):
        config = super().get_config()
        del config["spec"], config["reset_after"]
        gates = self._gates("input", "forget", "output")
        face = {"unit_forget_bias": self.unit_forget_bias, "peephole": self.peephole}
        return {**config, **gates, **face}


@keras.saving.register_keras_serializable("keras_gated")
class GatedGRU(GatedRNN):
    r"""GatedGRU: a GRU each of whose gates can be present, absent, tied or cut down.

    $$
    \begin{aligned}
    f_t &= \sigma(W_f x_t + U_f h_{t-1} + b_f + b'_f) \\
    r_t &= \sigma(W_r x_t + U_r h_{t-1} + b_r + b'_r) \\
    \tilde{h}_t &= g(W_c x_t + b_c + r_t \odot (U_c h_{t-1} + b'_c)) \\
    h_t &= f_t \odot h_{t-1} + (1 - f_t) \odot \tilde{h}_t
    \end{aligned}
    $$

    Conventions: the update gate z of Keras is the forget gate f: h keeps the share z. With default
    arguments it is `keras.layers.GRU`: same weights in the same order and shape, same numbers.

    Args:
        units: int > 0. Size U of the state.
        activation: name or function g of the candidate.
        recurrent_activation: name or function of the gates.
        use_bias: bool.
        reset_after: bool. Whether the reset gate acts after the recurrent product (as cuDNN) or
            before it (as the papers).
        update_gate: the share of the old state that stays. True (a gate), False (0: the state is
            overwritten), a number v (v stays, 1 - v is written), a `Gate` or a `Tied`.
        reset_gate: True, False (absent, 1.0; drops the recurrent bias too), a number, a `Gate` or
            a `Tied`, e.g. to "forget", the update gate.
        **kwargs: as `GatedRNN`.

    Call arguments, Returns, Raises: as `GatedRNN`; the state is [h].

    Example:
        >>> x = np.ones((4, 10, 8), "float32")                   # (B, T, F)
        >>> y = kg.GatedGRU(32, reset_gate=False)(x)
        >>> tuple(y.shape)
        (4, 32)

    References:
        - Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
          machine translation", 2014. arXiv:1406.1078.
        - Chung et al., "Empirical evaluation of gated recurrent neural networks", 2014.
          arXiv:1412.3555.
    """

    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        use_bias: bool = True,
        *,
        reset_after: bool = True,
        update_gate: Any = True,
        reset_gate: Any = True,
        **kwargs: Unpack[GateLayerArguments],
    ):
        check_arguments(self, dict(kwargs), GateLayerArguments.__annotations__)
        keeps = 0.0 if update_gate is False else as_gate(update_gate, "update_gate")
        if isinstance(keeps, Tied) and keeps.to != "reset":
            raise ValueError(
                "Argument `update_gate` can be tied to 'reset' alone: it is itself the forget "
                f"gate, and the input gate is its complement. Received: update_gate={keeps!r}."
            )
        for name, gate in (("update_gate", keeps), ("reset_gate", reset_gate)):
            if getattr(gate, "peephole", False):
                raise ValueError(
                    f"Argument `{name}` of a GatedGRU must have no peephole: there is no memory "
                    f"cell to look at. Received: {name}={gate!r}. Use GatedLSTM, or peephole=False."
                )
        spec = CellSpec(
            memory="hidden",
            forget_gate=keeps,
            input_gate=Tied("forget", complement=True),
            reset_gate=as_gate(reset_gate, "reset_gate"),
            candidate=Candidate(reset_after=reset_after),
        )
        super().__init__(
            units,
            spec,
            activation=identify(activation),
            recurrent_activation=identify(recurrent_activation),
            use_bias=use_bias,
            **kwargs,
        )

    def get_config(self):
        config = super().get_config()
        del config["spec"], config["output_activation"]
        gates = self._gates("forget", "reset")
        return {**config, "update_gate": gates["forget_gate"], "reset_gate": gates["reset_gate"]}
