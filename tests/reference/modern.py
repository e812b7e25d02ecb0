"""Cells of recent years: exponential gates, gates of a diagonal recurrence."""

from numpy import exp, log, maximum, tanh

from .base import FULL, G, full, sigmoid, witness


@witness(
    lambda m, n, **_: 4 * G(m, n),
    states=4,
    positive=(2,),
    input=FULL,
    forget=FULL,
    candidate=FULL,
    output=FULL,
    settings=({"forget": "exp"},),
    no_operator="normalizer",
)
def xlstm_slstm(w, x, state, forget="sigmoid"):
    """Beck et al. 2024, sLSTM, their equations 8 to 17: i exponential, h = o c / n; m is max."""
    h, c, n, m = state
    z = tanh(full(w["candidate"], x, h))
    log_i = full(w["input"], x, h)
    f_tilde = full(w["forget"], x, h)
    log_f = f_tilde if forget == "exp" else log(sigmoid(f_tilde))
    o = sigmoid(full(w["output"], x, h))
    m_new = maximum(log_f + m, log_i)
    i, f = exp(log_i - m_new), exp(log_f + m - m_new)
    c = f * c + i * z
    n = f * n + i
    return o * c / n, c, n, m_new
