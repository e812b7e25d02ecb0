"""Cells of recent years: exponential gates, gates of a diagonal recurrence."""

from numpy import concatenate, exp, log, log1p, maximum, split, sqrt, tanh

from .base import FULL, B, H, P, W, feed, sigmoid, witness


def by_head(x, kernels):
    """x times a kernel of heads (heads, in, out): each head sees its own entries of x."""
    heads = zip(split(x, len(kernels), axis=1), kernels, strict=True)
    return concatenate([part @ kernel for part, kernel in heads], axis=1)


@witness(
    lambda m, n, heads=1, **_: 4 * (m * n + n * n // heads + n),
    states=4,
    positive=(2,),
    input=W | H | B,
    forget=W | H | B,
    candidate=W | H | B,
    output=W | H | B,
    settings=({"heads": 5}, {"forget": "exp"}),
    no_operator="normalizer",
)
def xlstm_slstm(w, x, state, heads=1, forget="sigmoid"):
    """Beck et al. 2024, sLSTM, their equations 8 to 17: i exponential, h = o c / n; m is max."""
    h, c, n, m = state

    def full(k):
        return feed(k, x) + by_head(h, k["recurrent_kernel"])

    z = tanh(full(w["candidate"]))
    log_i, f_tilde = full(w["input"]), full(w["forget"])
    log_f = f_tilde if forget == "exp" else log(sigmoid(f_tilde))
    o = sigmoid(full(w["output"]))
    m_new = maximum(log_f + m, log_i)
    i, f = exp(log_i - m_new), exp(log_f + m - m_new)
    c = f * c + i * z
    n = f * n + i
    return o * c / n, c, n, m_new


@witness(
    lambda m, n, heads=1, **_: 2 * (m * n // heads + n) + n,
    square=True,
    input={"kernel": "blocks"} | B,
    forget={"kernel": "blocks"} | B | {"decay": "vector"},
    settings=({"heads": 5}, {"decay": 2.0}),
    no_operator="input_scale",
)
def rg_lru(w, x, state, heads=1, decay=8.0):
    """De et al. 2024, RG-LRU: a = exp(-c softplus(Λ) r), h = a h + sqrt(1 - a^2) (i x)."""
    (h,) = state
    r = sigmoid(by_head(x, w["forget"]["kernel"]) + w["forget"]["bias"])
    i = sigmoid(by_head(x, w["input"]["kernel"]) + w["input"]["bias"])
    a = exp(-decay * log1p(exp(w["forget"]["decay"])) * r)
    return (a * h + sqrt(1 - a**2) * (i * x),)


@witness(
    lambda m, n: 3 * m * n + 2 * n + 2 * n,
    states=2,
    square=True,
    forget=W | B | P,
    candidate=W,
    output=W | B | P,
    no_operator="input_skip",
)
def sru(w, x, state):
    """Lei et al. 2018, SRU, their equations 1 to 4: f and r see c_{t-1}; r shows c or x."""
    _, c_before = state
    f = sigmoid(feed(w["forget"], x) + w["forget"]["peephole"] * c_before)
    r = sigmoid(feed(w["output"], x) + w["output"]["peephole"] * c_before)
    c = f * c_before + (1 - f) * (x @ w["candidate"]["kernel"])
    return r * c + (1 - r) * x, c


@witness(
    lambda m, n: n * (m + n) + 2 * n + 2,
    forget=B,
    input={"scale": "number", "shift": "number"},
    candidate=FULL,
    no_operator="shares of the forget gate",
)
def fast_grnn(w, x, state):
    """Kusupati et al. 2018, FastGRNN: z and h~ of one product; (zeta (1 - z) + nu) h~ + z h."""
    (h,) = state
    product = x @ w["candidate"]["kernel"] + h @ w["candidate"]["recurrent_kernel"]
    z = sigmoid(product + w["forget"]["bias"])
    content = tanh(product + w["candidate"]["bias"])
    zeta, nu = sigmoid(w["input"]["scale"]), sigmoid(w["input"]["shift"])
    return ((zeta * (1 - z) + nu) * content + z * h,)
