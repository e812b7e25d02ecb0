"""Gates that see less: Dey & Salem's GRU1-3, the slim LSTMs, the MGU and its slim forms.

Two things are taken on trust, not from an opened paper: the constants 0.96 and 0.59, hence
arguments, and the numbers 10 and 11 of the slim LSTMs with pointwise candidates.
"""

from numpy import tanh

from .base import FULL, B, D, G, U, W, full, sigmoid, witness


def seen(k, h):
    """U h_{t-1} + b."""
    return h @ k["recurrent_kernel"] + k["bias"]


def mixed(w, x, h, z, r):
    """Chung's GRU with the gates given: (1 - z) h + z tanh(W x + U (r h) + b); z writes."""
    return ((1 - z) * h + z * tanh(full(w["candidate"], x, r * h)),)


@witness(lambda m, n: n * m + 3 * n * n + 3 * n, input=U | B, reset=U | B, candidate=FULL)
def gru1(w, x, state):
    """Dey & Salem 2017, GRU1: gates from state and bias; z writes, reset before the product."""
    (h,) = state
    return mixed(w, x, h, sigmoid(seen(w["input"], h)), sigmoid(seen(w["reset"], h)))


@witness(lambda m, n: n * m + 3 * n * n + n, input=U, reset=U, candidate=FULL)
def gru2(w, x, state):
    """Dey & Salem 2017, GRU2: gates from the state only."""
    (h,) = state
    z = sigmoid(h @ w["input"]["recurrent_kernel"])
    r = sigmoid(h @ w["reset"]["recurrent_kernel"])
    return mixed(w, x, h, z, r)


@witness(lambda m, n: n * m + n * n + 3 * n, input=B, reset=B, candidate=FULL)
def gru3(w, x, state):
    """Dey & Salem 2017, GRU3: gates from a bias only."""
    (h,) = state
    return mixed(w, x, h, sigmoid(w["input"]["bias"]), sigmoid(w["reset"]["bias"]))


@witness(lambda m, n: 2 * G(m, n), input=FULL, candidate=FULL)
def mgu(w, x, state):
    """Zhou et al. 2016, MGU: one gate f that writes and resets; reset before the product."""
    (h,) = state
    f = sigmoid(full(w["input"], x, h))
    return mixed(w, x, h, f, f)


@witness(lambda m, n: G(m, n) + n * n + n, input=U | B, candidate=FULL)
def mgu1(w, x, state):
    """Heck & Salem 2017, MGU1: f from state and bias."""
    (h,) = state
    f = sigmoid(seen(w["input"], h))
    return mixed(w, x, h, f, f)


@witness(lambda m, n: G(m, n) + n * n, input=U, candidate=FULL)
def mgu2(w, x, state):
    """Heck & Salem 2017, MGU2: f from the state only."""
    (h,) = state
    f = sigmoid(h @ w["input"]["recurrent_kernel"])
    return mixed(w, x, h, f, f)


@witness(lambda m, n: G(m, n) + n, input=B, candidate=FULL)
def mgu3(w, x, state):
    """Heck & Salem 2017, MGU3: f from a bias only."""
    (h,) = state
    f = sigmoid(w["input"]["bias"])
    return mixed(w, x, h, f, f)


def remembered(c_tilde, c, i, f, o):
    """The memory of a slim LSTM with the gates given: c = f c + i c_tilde, h = o tanh(c)."""
    c = f * c + i * c_tilde
    return o * tanh(c), c


def thin(k, x, h):
    """W x + u * h + b: a candidate with pointwise recurrence."""
    return x @ k["kernel"] + k["recurrent_kernel"] * h + k["bias"]


def three(w, gate):
    """gate(block) of the input, forget and output block."""
    return gate(w["input"]), gate(w["forget"]), gate(w["output"])


@witness(
    lambda m, n: n * m + 4 * n * n + 4 * n,
    states=2,
    input=U | B,
    forget=U | B,
    candidate=FULL,
    output=U | B,
)
def slim_lstm1(w, x, state):
    """Lu & Salem 2017, LSTM1: gates sigma(U h + b)."""
    h, c = state
    gates = three(w, lambda k: sigmoid(h @ k["recurrent_kernel"] + k["bias"]))
    return remembered(tanh(full(w["candidate"], x, h)), c, *gates)


@witness(lambda m, n: n * m + 4 * n * n + n, states=2, input=U, forget=U, candidate=FULL, output=U)
def slim_lstm2(w, x, state):
    """Lu & Salem 2017, LSTM2: gates sigma(U h)."""
    h, c = state
    gates = three(w, lambda k: sigmoid(h @ k["recurrent_kernel"]))
    return remembered(tanh(full(w["candidate"], x, h)), c, *gates)


@witness(lambda m, n: n * m + n * n + 4 * n, states=2, input=B, forget=B, candidate=FULL, output=B)
def slim_lstm3(w, x, state):
    """Lu & Salem 2017, LSTM3: gates sigma(b)."""
    h, c = state
    gates = three(w, lambda k: sigmoid(k["bias"]))
    return remembered(tanh(full(w["candidate"], x, h)), c, *gates)


@witness(lambda m, n: n * m + n * n + 4 * n, states=2, input=D, forget=D, candidate=FULL, output=D)
def slim_lstm4(w, x, state):
    """Akandeh & Salem 2017, LSTM4: gates sigma(u * h), pointwise."""
    h, c = state
    gates = three(w, lambda k: sigmoid(k["recurrent_kernel"] * h))
    return remembered(tanh(full(w["candidate"], x, h)), c, *gates)


@witness(
    lambda m, n: n * m + n * n + 7 * n,
    states=2,
    input=D | B,
    forget=D | B,
    candidate=FULL,
    output=D | B,
)
def slim_lstm5(w, x, state):
    """Akandeh & Salem 2017, LSTM5: gates sigma(u * h + b), pointwise."""
    h, c = state
    gates = three(w, lambda k: sigmoid(k["recurrent_kernel"] * h + k["bias"]))
    return remembered(tanh(full(w["candidate"], x, h)), c, *gates)


@witness(
    lambda m, n: n * m + n * n + 2 * n,
    states=2,
    input=D,
    candidate=FULL,
    settings=({"forget": 0.3},),
)
def slim_lstm4a(w, x, state, forget=0.96):
    """Akandeh & Salem 2017, LSTM4a: i = sigma(u * h), f constant, o = 1."""
    h, c = state
    i = sigmoid(w["input"]["recurrent_kernel"] * h)
    return remembered(tanh(full(w["candidate"], x, h)), c, i, forget, 1.0)


@witness(
    lambda m, n: n * m + n * n + 3 * n,
    states=2,
    input=D | B,
    candidate=FULL,
    settings=({"forget": 0.3},),
)
def slim_lstm5a(w, x, state, forget=0.96):
    """Akandeh & Salem 2017, LSTM5a: i = sigma(u * h + b), f constant, o = 1."""
    h, c = state
    i = sigmoid(w["input"]["recurrent_kernel"] * h + w["input"]["bias"])
    return remembered(tanh(full(w["candidate"], x, h)), c, i, forget, 1.0)


@witness(lambda m, n: n * m + n * n + n, states=2, candidate=FULL, settings=({"forget": 0.3},))
def slim_lstm6(w, x, state, forget=0.59):
    """Akandeh & Salem 2017, LSTM6: three constant gates, i = 1, o = 1 and f given."""
    h, c = state
    return remembered(tanh(full(w["candidate"], x, h)), c, 1.0, forget, 1.0)


@witness(lambda m, n: n * m + 5 * n, states=2, input=D, forget=D, candidate=W | D | B, output=D)
def slim_lstm10(w, x, state):
    """Akandeh & Salem 2017, part III, here LSTM10: LSTM4's gates, candidate W x + u * h + b."""
    h, c = state
    gates = three(w, lambda k: sigmoid(k["recurrent_kernel"] * h))
    return remembered(tanh(thin(w["candidate"], x, h)), c, *gates)


@witness(
    lambda m, n: n * m + 8 * n,
    states=2,
    input=D | B,
    forget=D | B,
    candidate=W | D | B,
    output=D | B,
)
def slim_lstm11(w, x, state):
    """Akandeh & Salem 2017, part III, here LSTM11: LSTM5's gates, candidate W x + u * h + b."""
    h, c = state
    gates = three(w, lambda k: sigmoid(k["recurrent_kernel"] * h + k["bias"]))
    return remembered(tanh(thin(w["candidate"], x, h)), c, *gates)


@witness(lambda m, n: n * m + 2 * n, states=2, candidate=W | D | B, settings=({"forget": 0.3},))
def slim_lstm_c6(w, x, state, forget=0.59):
    """Akandeh & Salem 2019, LSTM_C6: LSTM6's constant gates, candidate W x + u * h + b."""
    h, c = state
    return remembered(tanh(thin(w["candidate"], x, h)), c, 1.0, forget, 1.0)
