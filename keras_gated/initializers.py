"""Initial biases that the literature asks of gates, as Keras initializers.

All are written for a forget gate, whose bias says how long a unit keeps. `negate=True` is for a
gate that writes instead (an input gate, or the gate of `mgu` and `gru_chung`).
"""

from abc import ABC, abstractmethod
from typing import Any

import keras
from keras import ops


class _GateBias(keras.initializers.Initializer, ABC):
    """Common to the gate biases: the sign."""

    def __init__(self, negate: bool = False):
        self.negate = negate

    def __call__(self, shape, dtype=None):
        bias = self.forget_bias(shape, dtype)
        return -bias if self.negate else bias

    @abstractmethod
    def forget_bias(self, shape, dtype) -> Any:
        """The bias (shape) of a gate that keeps."""

    def get_config(self):
        return {"negate": self.negate}


class _RandomGateBias(_GateBias):
    """One that is drawn: a uniform law in [0, 1) turned into biases."""

    def __init__(self, negate: bool = False, seed: int | None = None):
        super().__init__(negate)
        self._uniform = keras.initializers.RandomUniform(0.0, 1.0, seed=seed)
        self.seed = seed

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("keras_gated")
class ForgetBias(_GateBias):
    """ForgetBias: every gate starts at the same bias, so that the memory is kept at first.

    Args:
        value: float. The bias; 1 is the usual one.
        negate: bool. Whether the gate writes instead of keeping.

    References:
        - Gers, Schmidhuber and Cummins, "Learning to forget", 2000.
        - Jozefowicz, Zaremba and Sutskever, "An empirical exploration of recurrent network
          architectures", 2015.
    """

    def __init__(self, value: float = 1.0, negate: bool = False):
        super().__init__(negate)
        self.value = value

    def forget_bias(self, shape, dtype):
        return ops.full(shape, self.value, dtype=dtype)

    def get_config(self):
        return {**super().get_config(), "value": self.value}


@keras.saving.register_keras_serializable("keras_gated")
class Chrono(_RandomGateBias):
    r"""Chrono: units forget on time scales spread evenly between 1 and `t_max` steps.

    $$ b = \log u, \quad u \sim \mathcal{U}(1, t_{max} - 1) $$

    Give an input gate `Chrono(t_max, negate=True, seed=s)` with the same seed as the forget gate's:
    it then gets exactly the negated biases, as the paper has it.

    Args:
        t_max: float > 2. The longest span to be kept, in time steps.
        negate: bool. Whether the gate writes instead of keeping.
        seed: int, or None for a draw from Keras's global seed.

    Raises:
        ValueError: if t_max <= 2.

    References:
        - Tallec and Ollivier, "Can recurrent neural networks warp time?", 2018. arXiv:1804.11188.
    """

    def __init__(self, t_max: float, negate: bool = False, seed: int | None = None):
        if not t_max > 2:
            raise ValueError(
                "Argument `t_max` must be > 2, the longest span of time steps to be kept. "
                f"Received: t_max={t_max!r}."
            )
        super().__init__(negate, seed)
        self.t_max = t_max

    def forget_bias(self, shape, dtype):
        return ops.log(1.0 + self._uniform(shape, dtype=dtype) * (self.t_max - 2.0))

    def get_config(self):
        return {**super().get_config(), "t_max": self.t_max}


@keras.saving.register_keras_serializable("keras_gated")
class UniformGate(_RandomGateBias):
    r"""UniformGate: the gates of the units start spread evenly between closed and open.

    $$ b = \operatorname{logit} u, \quad u \sim \mathcal{U}(1/n, 1 - 1/n) $$

    Args:
        negate: bool. Whether the gate writes instead of keeping.
        seed: int, or None for a draw from Keras's global seed.

    References:
        - Gu et al., "Improving the gating mechanism of recurrent neural networks", 2020.
          arXiv:1910.09890.
    """

    def forget_bias(self, shape, dtype):
        n = max(shape[-1], 2)
        u = 1.0 / n + self._uniform(shape, dtype=dtype) * (1.0 - 2.0 / n)
        return ops.log(u) - ops.log(1.0 - u)
