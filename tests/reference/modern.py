"""Cells of recent years: exponential gates, gates of a diagonal recurrence."""

from numpy import exp, log, log1p, maximum, sqrt, tanh

from .base import FULL, B, G, W, feed, full, sigmoid, witness


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


@witness(
    lambda m, n, **_: 2 * (m * n + n) + n,
    square=True,
    input=W | B,
    forget=W | B | {"decay": "vector"},
    settings=({"decay": 2.0},),
    no_operator="input_scale",
)
def rg_lru(w, x, state, decay=8.0):
    """De et al. 2024, RG-LRU: a = exp(-c softplus(Λ) r), h = a h + sqrt(1 - a^2) (i x)."""
    (h,) = state
    r = sigmoid(feed(w["forget"], x))
    i = sigmoid(feed(w["input"], x))
    a = exp(-decay * log1p(exp(w["forget"]["decay"])) * r)
    return (a * h + sqrt(1 - a**2) * (i * x),)
