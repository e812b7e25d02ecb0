"""Cells without recurrent weights: a linear recurrence whose gates see inputs only."""

from numpy import exp, split, tanh, where

from .base import B, W, feed, sigmoid, witness


def convolved(k, x, window):
    """W_0 x_t + W_1 x_{t-1} + ... + b over the window, tap by tap."""
    taps = zip(split(x, window, axis=1), split(k["kernel"], window), strict=True)
    return sum(x_lag @ w_lag for x_lag, w_lag in taps) + k["bias"]


def content(k, x, positive):
    """Feng et al. 2024: content W x + b; in the log-space form g of it, which is positive."""
    a = feed(k, x)
    return where(a >= 0, a + 0.5, sigmoid(a)) if positive else a


@witness(
    lambda m, n: 2 * n * m + 2 * n,
    input=W | B,
    candidate=W | B,
    settings=({"positive": True},),
)
def min_gru(w, x, state, positive=False):
    """Feng et al. 2024, minGRU: z writes."""
    (h,) = state
    z = sigmoid(feed(w["input"], x))
    return ((1 - z) * h + z * content(w["candidate"], x, positive),)


@witness(
    lambda m, n: 3 * n * m + 3 * n,
    input=W | B,
    forget=W | B,
    candidate=W | B,
    settings=({"positive": True},),
    no_operator="normalize_gates",
)
def min_lstm(w, x, state, positive=False):
    """Feng et al. 2024, minLSTM: f and i divided by their sum."""
    (h,) = state
    f, i = sigmoid(feed(w["forget"], x)), sigmoid(feed(w["input"], x))
    return (f / (f + i) * h + i / (f + i) * content(w["candidate"], x, positive),)


@witness(lambda m, n: 2 * n * m + 2 * n, forget=W | B, candidate=W | B)
def gilr(w, x, state):
    """Martin & Cundy 2018, GILR: g keeps; i = tanh(V x + b)."""
    (h,) = state
    g = sigmoid(feed(w["forget"], x))
    return (g * h + (1 - g) * tanh(feed(w["candidate"], x)),)


@witness(lambda m, n: 2 * n * m + n, forget=W | B, candidate=W)
def t_rnn(w, x, state):
    """Balduzzi & Ghifary 2016, T-RNN: f keeps; content z = W x without bias."""
    (h,) = state
    z = x @ w["candidate"]["kernel"]
    f = sigmoid(feed(w["forget"], x))
    return (f * h + (1 - f) * z,)


@witness(
    lambda m, n: 3 * (2 * n * m + n),
    window=2,
    input=W | B,
    forget=W | B,
    candidate=W | B,
    operator="LSTM",
)
def t_gru(w, x, state):
    """Balduzzi & Ghifary 2016, T-GRU: linear z scales tanh o, each from x_t and x_{t-1}."""
    (h,) = state
    z = convolved(w["input"], x, 2)
    f = sigmoid(convolved(w["forget"], x, 2))
    o = tanh(convolved(w["candidate"], x, 2))
    return (f * h + z * o,)


@witness(
    lambda m, n: 3 * (2 * n * m + n),
    states=2,
    window=2,
    forget=W | B,
    candidate=W | B,
    output=W | B,
)
def t_lstm(w, x, state):
    """Balduzzi & Ghifary 2016, T-LSTM: linear content z, input 1 - f, tanh o; h = c * o."""
    _, c = state
    z = convolved(w["candidate"], x, 2)
    f = sigmoid(convolved(w["forget"], x, 2))
    o = tanh(convolved(w["output"], x, 2))
    c = f * c + (1 - f) * z
    return c * o, c


@witness(
    lambda m, n, window=2: 2 * (window * n * m + n),
    window=2,
    forget=W | B,
    candidate=W | B,
    settings=({"window": 3},),
)
def qrnn_f(w, x, state, window=2):
    """Bradbury et al. 2017, QRNN with f-pooling: f keeps; biases."""
    (h,) = state
    z = tanh(convolved(w["candidate"], x, window))
    f = sigmoid(convolved(w["forget"], x, window))
    return (f * h + (1 - f) * z,)


@witness(
    lambda m, n, window=2: 3 * (window * n * m + n),
    states=2,
    window=2,
    forget=W | B,
    candidate=W | B,
    output=W | B,
    settings=({"window": 3},),
)
def qrnn_fo(w, x, state, window=2):
    """Bradbury et al. 2017, QRNN with fo-pooling: h = o * c, no tanh on c; biases."""
    _, c = state
    z = tanh(convolved(w["candidate"], x, window))
    f = sigmoid(convolved(w["forget"], x, window))
    o = sigmoid(convolved(w["output"], x, window))
    c = f * c + (1 - f) * z
    return o * c, c


@witness(
    lambda m, n, window=2: 4 * (window * n * m + n),
    states=2,
    window=2,
    input=W | B,
    forget=W | B,
    candidate=W | B,
    output=W | B,
    settings=({"window": 3},),
)
def qrnn_ifo(w, x, state, window=2):
    """Bradbury et al. 2017, QRNN with ifo-pooling: h = o * c, no tanh on c; biases."""
    _, c = state
    z = tanh(convolved(w["candidate"], x, window))
    f = sigmoid(convolved(w["forget"], x, window))
    o = sigmoid(convolved(w["output"], x, window))
    i = sigmoid(convolved(w["input"], x, window))
    c = f * c + i * z
    return o * c, c


@witness(
    lambda m, n, floor=0.5: 3 * (n * m + n),
    states=2,
    forget=W | B,
    candidate=W | B,
    output=W | B,
    settings=({"floor": 0.9},),
    no_operator="activation of the gates differs",
)
def hgrn_real(w, x, state, floor=0.5):
    """Qin et al. 2023, HGRN, real part: lambda = gamma + (1 - gamma) mu; content SiLU; gated."""
    _, c = state
    content = feed(w["candidate"], x)
    gamma, mu = floor, sigmoid(feed(w["forget"], x))
    lam = gamma + (1 - gamma) * mu
    c = lam * c + (1 - lam) * content / (1 + exp(-content))
    return sigmoid(feed(w["output"], x)) * c, c
