"""Two searches: Greff et al. take one part off the LSTM, Jozefowicz et al. breed the GRU's cousins.

Greff's letters: z is the block input, y the output, W and R the kernels, p the peepholes. His base
is the LSTM with peepholes; that of Jozefowicz's LSTM-i, -f, -o, -b has none.
"""

from numpy import tanh

from .base import FULL, B, G, P, U, W, full, sigmoid, witness

PEEP = FULL | P


def peep(k, x, y, c):
    """W x + R y + p * c + b: the pre-activation of one of Greff's gates."""
    return full(k, x, y) + k["peephole"] * c


@witness(lambda m, n: 3 * G(m, n) + 2 * n, states=2, forget=PEEP, candidate=FULL, output=PEEP)
def nig(w, x, state):
    """Greff et al. 2017, No Input Gate: i = 1."""
    y, c = state
    z = tanh(full(w["candidate"], x, y))
    f = sigmoid(peep(w["forget"], x, y, c))
    c = z + f * c
    o = sigmoid(peep(w["output"], x, y, c))
    return tanh(c) * o, c


@witness(lambda m, n: 3 * G(m, n) + 2 * n, states=2, input=PEEP, candidate=FULL, output=PEEP)
def nfg(w, x, state):
    """Greff et al. 2017, No Forget Gate: f = 1."""
    y, c = state
    z = tanh(full(w["candidate"], x, y))
    i = sigmoid(peep(w["input"], x, y, c))
    c = z * i + c
    o = sigmoid(peep(w["output"], x, y, c))
    return tanh(c) * o, c


@witness(lambda m, n: 3 * G(m, n) + 2 * n, states=2, input=PEEP, forget=PEEP, candidate=FULL)
def nog(w, x, state):
    """Greff et al. 2017, No Output Gate: o = 1."""
    y, c = state
    z = tanh(full(w["candidate"], x, y))
    i = sigmoid(peep(w["input"], x, y, c))
    f = sigmoid(peep(w["forget"], x, y, c))
    c = z * i + c * f
    return tanh(c), c


@witness(
    lambda m, n: 4 * G(m, n) + 3 * n,
    states=2,
    input=PEEP,
    forget=PEEP,
    candidate=FULL,
    output=PEEP,
)
def niaf(w, x, state):
    """Greff et al. 2017, No Input Activation Function: g(x) = x."""
    y, c = state
    z = full(w["candidate"], x, y)
    i = sigmoid(peep(w["input"], x, y, c))
    f = sigmoid(peep(w["forget"], x, y, c))
    c = z * i + c * f
    o = sigmoid(peep(w["output"], x, y, c))
    return tanh(c) * o, c


@witness(
    lambda m, n: 4 * G(m, n) + 3 * n,
    states=2,
    input=PEEP,
    forget=PEEP,
    candidate=FULL,
    output=PEEP,
)
def noaf(w, x, state):
    """Greff et al. 2017, No Output Activation Function: y = c * o."""
    y, c = state
    z = tanh(full(w["candidate"], x, y))
    i = sigmoid(peep(w["input"], x, y, c))
    f = sigmoid(peep(w["forget"], x, y, c))
    c = z * i + c * f
    o = sigmoid(peep(w["output"], x, y, c))
    return c * o, c


@witness(lambda m, n: 3 * G(m, n) + 2 * n, states=2, input=PEEP, candidate=FULL, output=PEEP)
def cifg(w, x, state):
    """Greff et al. 2017, Coupled Input and Forget Gate: f = 1 - i (not i = 1 - f)."""
    y, c = state
    z = tanh(full(w["candidate"], x, y))
    i = sigmoid(peep(w["input"], x, y, c))
    c = z * i + c * (1 - i)
    o = sigmoid(peep(w["output"], x, y, c))
    return tanh(c) * o, c


@witness(
    lambda m, n: 4 * G(m, n),
    name="np",
    states=2,
    input=FULL,
    forget=FULL,
    candidate=FULL,
    output=FULL,
)
def no_peepholes(w, x, state):
    """Greff et al. 2017, No Peepholes: the plain LSTM."""
    y, c = state
    z = tanh(full(w["candidate"], x, y))
    i = sigmoid(full(w["input"], x, y))
    f = sigmoid(full(w["forget"], x, y))
    c = z * i + c * f
    o = sigmoid(full(w["output"], x, y))
    return tanh(c) * o, c


GATED = PEEP | {"gate_recurrent_kernel": "gates"}


@witness(
    lambda m, n: 4 * G(m, n) + 3 * n + 9 * n * n,
    states=5,
    input=GATED,
    forget=GATED,
    candidate=FULL,
    output=GATED,
    no_operator="gate_recurrence",
)
def fgr(w, x, state):
    """Greff et al. 2017, Full Gate Recurrence: each gate also sees the last step's i, f, o."""
    y, c, i_old, f_old, o_old = state

    def gates(k):
        r_i, r_f, r_o = k["gate_recurrent_kernel"]
        return i_old @ r_i + f_old @ r_f + o_old @ r_o

    z = tanh(full(w["candidate"], x, y))
    i = sigmoid(peep(w["input"], x, y, c) + gates(w["input"]))
    f = sigmoid(peep(w["forget"], x, y, c) + gates(w["forget"]))
    c = z * i + c * f
    o = sigmoid(peep(w["output"], x, y, c) + gates(w["output"]))
    return tanh(c) * o, c, i, f, o


@witness(lambda m, n: 3 * G(m, n), states=2, forget=FULL, candidate=FULL, output=FULL)
def lstm_i(w, x, state):
    """Jozefowicz et al. 2015: the LSTM without input gate; sigma for the printed tanh of o."""
    h, c = state
    f = sigmoid(full(w["forget"], x, h))
    o = sigmoid(full(w["output"], x, h))
    c = c * f + tanh(full(w["candidate"], x, h))
    return tanh(c) * o, c


@witness(lambda m, n: 3 * G(m, n), states=2, input=FULL, candidate=FULL, output=FULL)
def lstm_f(w, x, state):
    """Jozefowicz et al. 2015: the LSTM without forget gate; sigma for the printed tanh of o."""
    h, c = state
    j = sigmoid(full(w["input"], x, h))
    o = sigmoid(full(w["output"], x, h))
    c = c + tanh(full(w["candidate"], x, h)) * j
    return tanh(c) * o, c


@witness(lambda m, n: 3 * G(m, n), states=2, input=FULL, forget=FULL, candidate=FULL)
def lstm_o(w, x, state):
    """Jozefowicz et al. 2015: the LSTM without output gate."""
    h, c = state
    j = sigmoid(full(w["input"], x, h))
    f = sigmoid(full(w["forget"], x, h))
    c = c * f + tanh(full(w["candidate"], x, h)) * j
    return tanh(c), c


@witness(lambda m, n: 4 * G(m, n), states=2, input=FULL, forget=FULL, candidate=FULL, output=FULL)
def lstm_b(w, x, state):
    """Jozefowicz et al. 2015: the LSTM with a forget bias that starts at one, so lstm's formula."""
    h, c = state
    j = sigmoid(full(w["input"], x, h))
    f = sigmoid(full(w["forget"], x, h))
    o = sigmoid(full(w["output"], x, h))
    c = c * f + tanh(full(w["candidate"], x, h)) * j
    return tanh(c) * o, c


@witness(
    lambda m, n: 2 * n * m + 2 * n * n + 3 * n,
    square=True,
    input=W | B,
    reset=FULL,
    candidate=U | B,
)
def mut1(w, x, state):
    """Jozefowicz et al. 2015, MUT1: z writes and sees x only; the candidate adds tanh(x) raw."""
    (h,) = state
    k = w["candidate"]
    z = sigmoid(x @ w["input"]["kernel"] + w["input"]["bias"])
    r = sigmoid(full(w["reset"], x, h))
    return (tanh((r * h) @ k["recurrent_kernel"] + tanh(x) + k["bias"]) * z + h * (1 - z),)


@witness(
    lambda m, n: 2 * n * m + 3 * n * n + 3 * n, square=True, input=FULL, reset=U | B, candidate=FULL
)
def mut2(w, x, state):
    """Jozefowicz et al. 2015, MUT2: z writes; the reset gate adds x as it is."""
    (h,) = state
    z = sigmoid(full(w["input"], x, h))
    r = sigmoid(x + h @ w["reset"]["recurrent_kernel"] + w["reset"]["bias"])
    return (tanh(full(w["candidate"], x, r * h)) * z + h * (1 - z),)


@witness(
    lambda m, n: 3 * G(m, n),
    input=FULL,
    reset=FULL,
    candidate=FULL,
    no_operator="recurrent_input_activation",
)
def mut3(w, x, state):
    """Jozefowicz et al. 2015, MUT3: z writes and sees tanh(h_{t-1})."""
    (h,) = state
    z = sigmoid(full(w["input"], x, tanh(h)))
    r = sigmoid(full(w["reset"], x, h))
    return (tanh(full(w["candidate"], x, r * h)) * z + h * (1 - z),)
