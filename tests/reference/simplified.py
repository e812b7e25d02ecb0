"""Cells with fewer gates, a simpler content or another way to mix old and new."""

from numpy import maximum, tanh

from .base import FULL, B, D, G, P, U, W, feed, full, sigmoid, witness


@witness(
    lambda m, n: 2 * G(m, n),
    forget=FULL,
    candidate=FULL,
    operator="LSTM",
    settings=({"beta": 0.0}, {"beta": 2.5}),
)
def janet(w, x, state, beta=1.0):
    """van der Westhuizen & Lasenby 2018, JANET: forget gate only; writes 1 - sigma(s - beta)."""
    (h,) = state
    s = full(w["forget"], x, h)
    return (sigmoid(s) * h + (1 - sigmoid(s - beta)) * tanh(full(w["candidate"], x, h)),)


@witness(lambda m, n: 2 * G(m, n), states=2, forget=FULL, candidate=FULL)
def s_lstm(w, x, state):
    """Wu & King 2016, S-LSTM: forget gate only, i = 1 - f; h = tanh(c) goes round, not c."""
    h, c = state
    f = sigmoid(full(w["forget"], x, h))
    c = f * c + (1 - f) * tanh(full(w["candidate"], x, h))
    return tanh(c), c


@witness(lambda m, n: 2 * G(m, n), forget=FULL, candidate=FULL)
def li_gru(w, x, state):
    """Ravanelli et al. 2018, Li-GRU: z keeps, ReLU, no reset; biases, no batch normalisation."""
    (h,) = state
    z = sigmoid(full(w["forget"], x, h))
    return (z * h + (1 - z) * maximum(full(w["candidate"], x, h), 0),)


@witness(lambda m, n: n * m + 2 * G(m, n), states=2, input=FULL, forget=FULL, candidate=W)
def ran(w, x, state):
    """Lee, Levy & Zettlemoyer 2017, RAN: content W x, linear and without bias; h = tanh(c)."""
    h, c = state
    i = sigmoid(full(w["input"], x, h))
    f = sigmoid(full(w["forget"], x, h))
    c = i * (x @ w["candidate"]["kernel"]) + f * c
    return tanh(c), c


@witness(lambda m, n: n * m + 2 * G(m, n), states=2, input=FULL, forget=FULL, candidate=W)
def ran_linear(w, x, state):
    """Lee, Levy & Zettlemoyer 2017, RAN with identity output: h = c, kept as two states."""
    h, c = state
    i = sigmoid(full(w["input"], x, h))
    f = sigmoid(full(w["forget"], x, h))
    c = i * (x @ w["candidate"]["kernel"]) + f * c
    return c, c


@witness(
    lambda m, n: 2 * G(m, n) + n * m,
    input=FULL,
    forget=FULL,
    candidate=W,
    no_operator="carry_activation",
)
def cfn(w, x, state):
    """Laurent & von Brecht 2016, CFN: theta carries tanh(h_{t-1}), eta writes tanh(W x)."""
    (h,) = state
    theta = sigmoid(full(w["forget"], x, h))
    eta = sigmoid(full(w["input"], x, h))
    return (theta * tanh(h) + eta * tanh(x @ w["candidate"]["kernel"]),)


@witness(lambda m, n: 2 * G(m, n), forget=FULL, candidate=FULL)
def ugrnn(w, x, state):
    """Collins et al. 2017, UGRNN: g keeps; its +1 is the bias's start, not a term."""
    (h,) = state
    g = sigmoid(full(w["forget"], x, h))
    return (g * h + (1 - g) * tanh(full(w["candidate"], x, h)),)


@witness(lambda m, n: 2 * G(m, n), forget=FULL, candidate=FULL)
def gru_no_reset(w, x, state):
    """Cho et al. 2014 with r = 1: z keeps."""
    (h,) = state
    z = sigmoid(full(w["forget"], x, h))
    return (z * h + (1 - z) * tanh(full(w["candidate"], x, h)),)


@witness(lambda m, n: 2 * G(m, n), reset=FULL, candidate=FULL)
def gru_no_update(w, x, state):
    """Cho et al. 2014 with z = 0, pure overwrite; reset before the product."""
    (h,) = state
    r = sigmoid(full(w["reset"], x, h))
    return (tanh(full(w["candidate"], x, r * h)),)


@witness(
    lambda m, n: n * m + 2 * n * n + 2 * n,
    projection=W | B,
    forget={"kernel": "square"} | U | B,
)
def minimal_rnn(w, x, state):
    """Chen 2017, MinimalRNN: z = tanh(W x + b) of this step is content and gate input; u keeps."""
    (h,) = state
    z = tanh(feed(w["projection"], x))
    u = sigmoid(full(w["forget"], z, h))
    return (u * h + (1 - u) * z,)


@witness(
    lambda m, n: n * m + 3 * G(m, n), states=2, input=FULL, forget=FULL, candidate=W, output=FULL
)
def levy_srnn(w, x, state):
    """Levy et al. 2018, LSTM - S-RNN: content W x without bias."""
    h, c = state
    i = sigmoid(full(w["input"], x, h))
    f = sigmoid(full(w["forget"], x, h))
    o = sigmoid(full(w["output"], x, h))
    c = i * (x @ w["candidate"]["kernel"]) + f * c
    return o * tanh(c), c


@witness(lambda m, n: n * m + 2 * G(m, n), states=2, input=FULL, forget=FULL, candidate=W)
def levy_srnn_out(w, x, state):
    """Levy et al. 2018, LSTM - S-RNN - OUT: content W x, and no output gate."""
    h, c = state
    i = sigmoid(full(w["input"], x, h))
    f = sigmoid(full(w["forget"], x, h))
    c = i * (x @ w["candidate"]["kernel"]) + f * c
    return tanh(c), c


@witness(
    lambda m, n: 4 * n * m + 3 * n, states=2, input=W | B, forget=W | B, candidate=W, output=W | B
)
def levy_srnn_hidden(w, x, state):
    """Levy et al. 2018, LSTM - S-RNN - HIDDEN: content W x, and all three gates see x only."""
    _, c = state
    i = sigmoid(feed(w["input"], x))
    f = sigmoid(feed(w["forget"], x))
    o = sigmoid(feed(w["output"], x))
    c = i * (x @ w["candidate"]["kernel"]) + f * c
    return o * tanh(c), c


@witness(lambda m, n: n * m + 2 * n, candidate=W | D | B)
def ind_rnn(w, x, state):
    """Li et al. 2018, IndRNN: each unit sees itself only; ReLU (others take tanh)."""
    (h,) = state
    return (maximum(feed(w["candidate"], x) + w["candidate"]["recurrent_kernel"] * h, 0),)


@witness(lambda m, n: 3 * (n * m + 2 * n), input=W | D | B, reset=W | D | B, candidate=W | D | B)
def para_gru(w, x, state):
    """Danieli et al. 2025, ParaGRU: z writes; every recurrent matrix is diagonal."""
    (h,) = state
    z = sigmoid(feed(w["input"], x) + w["input"]["recurrent_kernel"] * h)
    r = sigmoid(feed(w["reset"], x) + w["reset"]["recurrent_kernel"] * h)
    c = tanh(feed(w["candidate"], x) + w["candidate"]["recurrent_kernel"] * (h * r))
    return ((1 - z) * h + z * c,)


@witness(
    lambda m, n: 3 * (n * m + 2 * n) + 2 * n,
    states=2,
    forget=W | D | B | P,
    candidate=W | D | B,
    output=W | D | B | P,
)
def para_lstm(w, x, state):
    """Danieli et al. 2025, ParaLSTM: i = 1 - f; o looks at the new c; diagonal matrices."""
    h, c = state
    f, z, o = (w[name] for name in ("forget", "candidate", "output"))
    forget = sigmoid(feed(f, x) + f["recurrent_kernel"] * h + f["peephole"] * c)
    content = tanh(feed(z, x) + z["recurrent_kernel"] * h)
    c = forget * c + (1 - forget) * content
    output = sigmoid(feed(o, x) + o["recurrent_kernel"] * h + o["peephole"] * c)
    return output * tanh(c), c


@witness(lambda m, n: 3 * n * m + 5 * n, forget=W | D | B, reset=W | D | B, candidate=W | B)
def brc(w, x, state):
    """Vecoven et al. 2021, BRC: c keeps, a = 1 + tanh(.) feeds back; gates pointwise in h."""
    (h,) = state
    a = 1 + tanh(feed(w["reset"], x) + w["reset"]["recurrent_kernel"] * h)
    c = sigmoid(feed(w["forget"], x) + w["forget"]["recurrent_kernel"] * h)
    return (c * h + (1 - c) * tanh(feed(w["candidate"], x) + a * h),)


@witness(lambda m, n: 3 * n * m + 2 * n * n + 3 * n, forget=FULL, reset=FULL, candidate=W | B)
def nbrc(w, x, state):
    """Vecoven et al. 2021, nBRC: as BRC, the gates see every unit."""
    (h,) = state
    a = 1 + tanh(full(w["reset"], x, h))
    c = sigmoid(full(w["forget"], x, h))
    return (c * h + (1 - c) * tanh(feed(w["candidate"], x) + a * h),)


@witness(
    lambda m, n: 2 * n * m + n * n + 2 * n,
    input=FULL,
    candidate=W | B,
    no_operator="memory_activation",
)
def star(w, x, state):
    """Turkoglu et al. 2021, STAR: k writes; tanh around the whole new state."""
    (h,) = state
    z = tanh(feed(w["candidate"], x))
    k = sigmoid(full(w["input"], x, h))
    return (tanh((1 - k) * h + k * z),)


@witness(G, candidate=FULL, operator="GRU", settings=({"alpha": 0.2},))
def leaky_rnn(w, x, state, alpha=0.7):
    """Leaky-integrator network: alpha keeps, a constant; the control without gates."""
    (h,) = state
    return (alpha * h + (1 - alpha) * tanh(full(w["candidate"], x, h)),)


@witness(lambda m, n: 2 * n * m + n * n + 2 * n, input=FULL, candidate=W | B)
def light_ru(w, x, state):
    """Light recurrent unit: z writes; the candidate sees x only."""
    (h,) = state
    z = sigmoid(full(w["input"], x, h))
    return ((1 - z) * h + z * tanh(feed(w["candidate"], x)),)
