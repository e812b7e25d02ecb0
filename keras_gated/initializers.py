"""Initial biases of gates that the literature recommends, as Keras initializers.

Each is written for a forget gate: a large bias means that a unit carries its memory on for long.
`negate=True` is for a gate that writes new content instead (an input gate, or the single gate of
`mgu` and the update gate of `gru_chung`).
"""

from abc import ABC, abstractmethod
from typing import Any

import keras
from keras import ops


class _GateBias(keras.initializers.Initializer, ABC):
    """Base class: the biases of a forget gate, negated if `negate` is True."""

    def __init__(self, negate: bool = False):
        self.negate = negate

    def __call__(self, shape, dtype=None):
        bias = self._forget_bias(shape, dtype)
        return -bias if self.negate else bias

    @abstractmethod
    def _forget_bias(self, shape, dtype) -> Any:
        """Returns the biases of a forget gate, a tensor of this shape."""

    def get_config(self):
        return {"negate": self.negate}


class _RandomGateBias(_GateBias):
    """Base class of random biases: they are computed from uniform random numbers in [0, 1)."""

    def __init__(self, negate: bool = False, seed: int | None = None):
        super().__init__(negate)
        self._uniform = keras.initializers.RandomUniform(0.0, 1.0, seed=seed)
        self.seed = seed

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("keras_gated")
class ForgetBias(_GateBias):
    """ForgetBias: all units start with the same bias, so that the memory is carried on at first.

    Args:
        value: float. The bias; 1 is usual.
        negate: bool. Whether the gate writes new content; then the bias is `-value`.

    Example:
        >>> layer = kg.GatedLSTM(3, forget_gate=kg.Gate(bias_initializer=kg.ForgetBias(2.0)))
        >>> layer.build((None, None, 8))
        >>> keras.ops.convert_to_numpy(layer.block_weights()["forget"]["bias"]).tolist()
        [2.0, 2.0, 2.0]

    References:
        - Gers, Schmidhuber and Cummins, "Learning to forget", 2000.
        - Jozefowicz, Zaremba and Sutskever, "An empirical exploration of recurrent network
          architectures", 2015.
    """

    def __init__(self, value: float = 1.0, negate: bool = False):
        super().__init__(negate)
        self.value = value

    def _forget_bias(self, shape, dtype):
        return ops.full(shape, self.value, dtype=dtype)

    def get_config(self):
        return {**super().get_config(), "value": self.value}


@keras.saving.register_keras_serializable("keras_gated")
class Chrono(_RandomGateBias):
    r"""Chrono: the units start with time scales spread evenly between 1 and `t_max` time steps.

    $$ b = \log u, \quad u \sim \mathcal{U}(1, t_{max} - 1) $$

    In the paper the input gate has the negated biases of the forget gate. Give it
    `Chrono(t_max, negate=True, seed=s)` with the seed of the forget gate.

    Args:
        t_max: float > 2. The longest time, in time steps, over which a unit is to remember.
        negate: bool. Whether the gate writes new content; then the biases are negated.
        seed: int, or None to draw the seed from Keras's global random state.

    Raises:
        ValueError: if t_max <= 2.

    Example:
        >>> chrono = kg.Gate(bias_initializer=kg.Chrono(t_max=100.0, seed=0))
        >>> layer = kg.GatedLSTM(32, forget_gate=chrono)
        >>> layer.build((None, None, 8))
        >>> bias = keras.ops.convert_to_numpy(layer.block_weights()["forget"]["bias"])
        >>> bool(0.0 <= bias.min() and bias.max() <= np.log(99.0))
        True

    References:
        - Tallec and Ollivier, "Can recurrent neural networks warp time?", 2018. arXiv:1804.11188.
    """

    def __init__(self, t_max: float, negate: bool = False, seed: int | None = None):
        if not t_max > 2:
            raise ValueError(
                "Argument `t_max` must be > 2: the number of time steps over which a unit is to "
                f"remember at most. Received: t_max={t_max!r}."
            )
        super().__init__(negate, seed)
        self.t_max = t_max

    def _forget_bias(self, shape, dtype):
        return ops.log(1.0 + self._uniform(shape, dtype=dtype) * (self.t_max - 2.0))

    def get_config(self):
        return {**super().get_config(), "t_max": self.t_max}


@keras.saving.register_keras_serializable("keras_gated")
class UniformGate(_RandomGateBias):
    r"""UniformGate: the gate's initial values are spread evenly over the units, from 0 to 1.

    $$ b = \operatorname{logit} u, \quad u \sim \mathcal{U}(1/n, 1 - 1/n) $$

    n is the number of units.

    Args:
        negate: bool. Whether the gate writes new content; then the biases are negated.
        seed: int, or None to draw the seed from Keras's global random state.

    Example:
        >>> layer = kg.GatedLSTM(500, forget_gate=kg.Gate(bias_initializer=kg.UniformGate(seed=0)))
        >>> layer.build((None, None, 8))
        >>> bias = keras.ops.convert_to_numpy(layer.block_weights()["forget"]["bias"])
        >>> forget = 1 / (1 + np.exp(-bias))
        >>> bool(forget.min() < 0.01 and forget.max() > 0.99)
        True

    References:
        - Gu et al., "Improving the gating mechanism of recurrent neural networks", 2020.
          arXiv:1910.09890.
    """

    def _forget_bias(self, shape, dtype):
        n = max(shape[-1], 2)
        u = 1.0 / n + self._uniform(shape, dtype=dtype) * (1.0 - 2.0 / n)
        return ops.log(u) - ops.log(1.0 - u)
