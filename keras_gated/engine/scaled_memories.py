r"""Memories in a scale of their own: c, its normaliser n, and the stabiliser m (sLSTM).

The paper's formula, with exponential gates, overflows:

    c_t = f_t c_{t-1} + i_t c̃_t,   n_t = f_t n_{t-1} + i_t,   h_t = o_t φ(c_t / n_t)

So c and n are stored times exp(-m_t), where m_t is the largest logarithm of what was written and is
still remembered. Then f' and i' below are at most 1, one of them is 1, and n is at least 1 from the
first step on:

    m_t = max(log f_t + m_{t-1}, log i_t)
    i'  = exp(log i_t - m_t),   f' = exp(log f_t + m_{t-1} - m_t)

In c / n the scale cancels: h depends on no m. So an m that was rounded is as good, as long as c and
n are scaled with the same number; `with_rounded_scale` sees to that where states are stored in 16
bits. A caller can read c, n and m as states: for their gradients to
be right, the gradient goes through m. In that of h its parts cancel.

References:
    - Beck et al., "xLSTM: extended long short-term memory", 2024. arXiv:2405.04517.
"""

from typing import Any

from keras import ops

LARGEST_LOG = 80.0  # exp of it is finite in 32 bits and in bfloat16


def scaled_memories(value: Any, state: dict, candidate: Any, hooks: Any) -> dict:
    """Returns c_t, n_t and m_t by name.

    Args:
        value: the `GateTensors` of the step.
        state: the states before the step, by name.
        candidate: the candidate.
        hooks: `Hooks`.
    """
    log_i, log_f = value.log("input"), value.log("forget")
    c, n, before = state["c"], state["n"], state["m"]
    new, old = log_i + ops.zeros_like(before), log_f + before
    # At the first step nothing is remembered: an m_{t-1} of 0 must not make i' so small that n is
    # 0. There f' can be above 1; it multiplies 0, which must not be infinity times 0.
    empty = ops.logical_and(n == 0.0, c == 0.0)
    m = ops.where(empty, new, ops.maximum(old, new))
    m = hooks.stabilizer(m)
    # The brackets: a difference of two m is exact, while log f + m may be rounded.
    i, f = ops.exp(log_i - m), ops.exp(ops.minimum(log_f + (before - m), LARGEST_LOG))
    written = i * candidate
    return {
        "c": hooks.memory(f * c + written, f, written),
        "n": hooks.memory(f * n + i, f, i),
        "m": m,
    }


def with_rounded_scale(state: dict, dtype: str) -> dict:
    """Returns c, n and m by name: m is a number of `dtype`, and c and n are in its scale."""
    m = state["m"]
    rounded = ops.cast(ops.cast(m, dtype), m.dtype)
    factor = ops.exp(m - rounded)
    return {"c": state["c"] * factor, "n": state["n"] * factor, "m": rounded}
