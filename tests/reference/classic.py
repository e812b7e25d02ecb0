"""The base cells: Elman's network, the LSTM from 1997 to peepholes, the GRU in three spellings."""

from numpy import concatenate, split, tanh

from .base import FULL, B, G, H, P, U, W, feed, full, sigmoid, witness

BOTH = W | U | B | {"recurrent_bias": "vector"}


@witness(G, candidate=FULL)
def elman(w, x, state):
    """Elman 1990, with tanh for his logistic unit and one bias."""
    (h,) = state
    return (tanh(full(w["candidate"], x, h)),)


@witness(lambda m, n: 3 * G(m, n), states=2, input=FULL, candidate=FULL, output=FULL)
def lstm_1997(w, x, state):
    """Hochreiter & Schmidhuber 1997: no forget gate; g = 4 sigma - 2 and 2 sigma - 1, not tanh."""
    h, c = state
    i = sigmoid(full(w["input"], x, h))
    o = sigmoid(full(w["output"], x, h))
    g = 4 * sigmoid(full(w["candidate"], x, h)) - 2
    c = c + i * g
    return o * (2 * sigmoid(c) - 1), c


@witness(lambda m, n: 4 * G(m, n), states=2, input=FULL, forget=FULL, candidate=FULL, output=FULL)
def lstm(w, x, state):
    """Gers, Schmidhuber & Cummins 2000: the LSTM with forget gate; tanh twice, one bias a block."""
    h, c = state
    i = sigmoid(full(w["input"], x, h))
    f = sigmoid(full(w["forget"], x, h))
    o = sigmoid(full(w["output"], x, h))
    c = f * c + i * tanh(full(w["candidate"], x, h))
    return o * tanh(c), c


@witness(
    lambda m, n: 4 * G(m, n) + 3 * n,
    states=2,
    input=FULL | P,
    forget=FULL | P,
    candidate=FULL,
    output=FULL | P,
)
def lstm_peephole(w, x, state):
    """Gers & Schmidhuber 2000, Graves 2013: i and f see c_{t-1}, o sees c_t; the candidate none."""
    h, c = state
    i = sigmoid(full(w["input"], x, h) + w["input"]["peephole"] * c)
    f = sigmoid(full(w["forget"], x, h) + w["forget"]["peephole"] * c)
    c = f * c + i * tanh(full(w["candidate"], x, h))
    o = sigmoid(full(w["output"], x, h) + w["output"]["peephole"] * c)
    return o * tanh(c), c


@witness(lambda m, n: 3 * (n * m + n * n + 2 * n), forget=BOTH, reset=BOTH, candidate=BOTH)
def gru(w, x, state):
    """Cho et al. 2014, first version, as cuDNN: z keeps, reset after the product and its bias."""
    (h,) = state
    z = sigmoid(full(w["forget"], x, h) + w["forget"]["recurrent_bias"])
    r = sigmoid(full(w["reset"], x, h) + w["reset"]["recurrent_bias"])
    k = w["candidate"]
    n = tanh(x @ k["kernel"] + k["bias"] + r * (h @ k["recurrent_kernel"] + k["recurrent_bias"]))
    return (z * h + (1 - z) * n,)


@witness(lambda m, n: 3 * G(m, n), forget=FULL, reset=FULL, candidate=FULL)
def gru_cho(w, x, state):
    """Cho et al. 2014, third version: z keeps, reset before the product; with biases."""
    (h,) = state
    z = sigmoid(full(w["forget"], x, h))
    r = sigmoid(full(w["reset"], x, h))
    return (z * h + (1 - z) * tanh(full(w["candidate"], x, r * h)),)


@witness(lambda m, n: 3 * G(m, n), input=FULL, reset=FULL, candidate=FULL)
def gru_chung(w, x, state):
    """Chung et al. 2014: z writes, reset before the product; with biases."""
    (h,) = state
    z = sigmoid(full(w["input"], x, h))
    r = sigmoid(full(w["reset"], x, h))
    return ((1 - z) * h + z * tanh(full(w["candidate"], x, r * h)),)


@witness(
    lambda m, n, blocks=1: 3 * (n * m + n * n // blocks + n),
    input=W | H | B,
    reset=W | H | B,
    candidate=W | H | B,
    settings=({"blocks": 5},),
    no_operator="reset_all",
)
def block_gru(w, x, state, blocks=1):
    """Hafner et al. 2023, DreamerV3: reset * (all of the candidate); update writes.

    The authors' sigmoid(update - 1) has its - 1 in the bias here.
    """
    (deter,) = state

    def seen(k):
        groups = zip(split(deter, blocks, axis=1), k["recurrent_kernel"], strict=True)
        return feed(k, x) + concatenate([group @ u for group, u in groups], axis=1)

    reset, update = sigmoid(seen(w["reset"])), sigmoid(seen(w["input"]))
    cand = tanh(reset * seen(w["candidate"]))
    return (update * cand + (1 - update) * deter,)
