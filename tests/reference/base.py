"""The register of witnesses, and their use: draw weights, run over time, differentiate."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

Weights = dict[str, dict[str, np.ndarray]]
State = tuple[np.ndarray, ...]

WITNESSES: dict[str, "Witness"] = {}

# The weights of one block and their kinds, to be joined with |: W | U | B is a full block.
W = {"kernel": "dense"}
U = {"recurrent_kernel": "dense"}
D = {"recurrent_kernel": "diagonal"}
H = {"recurrent_kernel": "blocks"}
B = {"bias": "vector"}
P = {"peephole": "vector"}
FULL = W | U | B


@dataclass(frozen=True)
class Witness:
    """One cell.

    Attributes:
        step: one time step.
        parameters: how many weights the cell has, from the numbers of inputs and units.
        weights: the weights that the step reads, and their kinds.
        states: how many.
        positive: which of them are positive numbers.
        window: how many of the last inputs the step sees.
        square: whether there must be as many inputs as units.
        settings: values of the preset's arguments, other than its defaults, to test it at too.
        no_operator: the setting of the specification that no operator of ONNX has, if one is so.
        operator: the operator of ONNX, where it is another than the states and blocks say.
    """

    step: Callable[..., State]
    parameters: Callable[..., int]
    weights: dict[str, dict[str, str]]
    states: int = 1
    positive: tuple[int, ...] = ()
    window: int = 1
    square: bool = False
    settings: tuple[dict, ...] = ()
    no_operator: str | None = None
    operator: str | None = None

    @property
    def native(self) -> str | None:
        """The operator of ONNX that computes the cell; None if there is none.

        Two states are an LSTM's h and c. One state and a gate are a GRU's.
        """
        if self.no_operator:
            return None
        by_parts = "GRU" if self.weights.keys() - {"candidate"} else "RNN"
        return self.operator or ("LSTM" if self.states > 1 else by_parts)


OPTIONAL = {f.name for f in fields(Witness)} - {"step", "parameters", "weights"}


def witness(parameters, *, name=None, **given):
    """Register the decorated step under `name` (default: the function's).

    Other arguments are attributes of `Witness`, or blocks with their weights.
    """
    about = {key: given.pop(key) for key in OPTIONAL & given.keys()}

    def register(step):
        key = name or step.__name__
        if key in WITNESSES:
            raise ValueError(f"There are two witnesses of {key!r}: rename one.")
        WITNESSES[key] = Witness(step, parameters, given, **about)
        return step

    return register


def G(m, n):
    """The size of a full block: kernel, recurrent kernel and one bias."""
    return n * (m + n + 1)


def sigmoid(a):
    """1 / (1 + exp(-a)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -a))


def full(k, x, h):
    """W x_t + U h_{t-1} + b: the full pre-activation of block k."""
    return x @ k["kernel"] + h @ k["recurrent_kernel"] + k["bias"]


def feed(k, x):
    """W x_t + b: a pre-activation that sees the input only."""
    return x @ k["kernel"] + k["bias"]


def _shape(key, kind, m, n, blocks):
    """The shape of a weight; 'square' is a kernel on n features, 'gates' one matrix per i, f, o."""
    if kind == "dense":
        return (m if key == "kernel" else n, n)
    if kind == "blocks":
        return (blocks, n // blocks, n // blocks)
    shapes = {"diagonal": (n,), "vector": (n,), "square": (n, n), "gates": (3, n, n)}
    return (shapes | {"number": (1,)})[kind]


def draw(name, m, n, rng, scale=0.5, window=None, blocks=1) -> Weights:
    """Random float64 weights of a cell for m inputs and n units: normal, of deviation `scale`."""
    cell = WITNESSES[name]
    if cell.square and m != n:
        raise ValueError(f"{name} adds the raw input to n units and needs m == n. Got {m=}, {n=}.")
    rows = m * (window or cell.window)
    return {
        block: {
            k: scale * rng.standard_normal(_shape(k, kind, rows, n, blocks))
            for k, kind in keys.items()
        }
        for block, keys in cell.weights.items()
    }


def state_names(name) -> str:
    """The letter of each state of a cell."""
    cell = WITNESSES[name]
    return ("hcnm" if cell.positive else "hcifo")[: cell.states]


def valid_states(name, states) -> list:
    """The same states, with those positive that the cell divides by."""
    positive = WITNESSES[name].positive
    return [abs(s) + 0.5 if k in positive else s for k, s in enumerate(states)]


def _windowed(xs, window):
    """(B, T, m) -> (B, T, window m): x_t, x_{t-1}, ...; zeros stand before the first step."""
    steps = xs.shape[1]
    padded = np.concatenate([np.zeros_like(xs[:, :1])] * (window - 1) + [xs], axis=1)
    taps = [padded[:, window - 1 - lag : window - 1 - lag + steps] for lag in range(window)]
    return np.concatenate(taps, axis=2)


def _float64(w):
    """A float64 copy of nested weights."""
    return {b: {k: np.array(v, np.float64) for k, v in keys.items()} for b, keys in w.items()}


def run(name, w, xs, state, **constants) -> tuple[np.ndarray, State]:
    """Run a cell over xs (B, T, m) from `state`: the outputs (B, T, n) and the final state."""
    cell = WITNESSES[name]
    w = _float64(w)
    state = tuple(np.asarray(s, np.float64) for s in state)
    if len(state) != cell.states:
        raise ValueError(f"{name} has {cell.states} states. Received {len(state)}.")
    xs = _windowed(np.asarray(xs, np.float64), constants.get("window", cell.window))
    outputs = []
    for t in range(xs.shape[1]):
        state = cell.step(w, xs[:, t], state, **constants)
        outputs.append(state[0])
    return np.stack(outputs, axis=1), state


def gradient(name, w, xs, state, upstream, eps=1e-6, **constants) -> Weights:
    """Central differences of sum(upstream * outputs) by every weight, nested as w.

    One more entry, "state", holds those by the initial states, under their names.
    """
    w = _float64(w)
    state = tuple(np.array(s, np.float64) for s in state)

    def objective():
        return float(np.sum(upstream * run(name, w, xs, state, **constants)[0]))

    by = {b: {k: _central(objective, v, eps) for k, v in keys.items()} for b, keys in w.items()}
    slopes = [_central(objective, s, eps) for s in state]
    by["state"] = dict(zip(state_names(name), slopes, strict=True))
    return by


def _central(objective, array, eps):
    """Central differences of objective() by each entry of `array`, which it reads."""
    slope = np.empty_like(array)
    for index in np.ndindex(array.shape):
        remaining = array[index]
        array[index] = remaining + eps
        above = objective()
        array[index] = remaining - eps
        slope[index] = (above - objective()) / (2 * eps)
        array[index] = remaining
    return slope
