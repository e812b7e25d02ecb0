"""The keyword arguments of the layers, typed, so that an editor completes and checks them.

`argument_checks` reads their names. A test compares them with the constructors of `GatedCell` and
`keras.layers.RNN`.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypedDict

# As Keras takes them: a name, a config, or the object itself.
Activation = str | Hashable | Callable[[Any], Any] | None
Configurable = str | dict[str, Any] | Callable[..., Any] | None


class LayerArguments(TypedDict, total=False):
    """Arguments of any layer."""

    name: str | None
    dtype: Any
    trainable: bool


class CellOptions(LayerArguments, total=False):
    """The options of a cell; `spec.options.TABLE` has a row for each."""

    dropout: float
    recurrent_dropout: float
    candidate_dropout: float
    zoneout: float | Sequence[float]
    weight_noise: float
    state_clip: float | None
    layer_norm: bool
    batch_norm: bool
    projection_units: int | None


class CellArguments(CellOptions, total=False):
    """Arguments of `GatedCell` other than units, spec and what the spec says."""

    kernel_initializer: Configurable
    recurrent_initializer: Configurable
    bias_initializer: Configurable
    peephole_initializer: Configurable
    diagonal_initializer: Configurable
    kernel_regularizer: Configurable
    recurrent_regularizer: Configurable
    bias_regularizer: Configurable
    kernel_constraint: Configurable
    recurrent_constraint: Configurable
    bias_constraint: Configurable
    seed: int | None


class RNNArguments(CellArguments, total=False):
    """These, and the arguments of `keras.layers.RNN`."""

    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    unroll: bool
    zero_output_for_mask: bool
    use_cudnn: bool | str
    implementation: int
    activity_regularizer: Configurable


class GateLayerArguments(RNNArguments, total=False):
    """What `GatedLSTM` and `GatedGRU` pass on to `GatedRNN`."""

    time_parallel: bool | str


class SpecArguments(RNNArguments, total=False):
    """What `GatedRNN` takes: these replace what its specification says."""

    activation: Activation
    recurrent_activation: Activation
    output_activation: Activation
    use_bias: bool | None
    reset_after: bool | None
