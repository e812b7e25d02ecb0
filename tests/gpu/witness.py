"""What the float64 witnesses of tests/reference say of masks, directions and single slopes."""

import numpy as np

from tests.helpers import Case
from tests.reference import gradient, run, state_names


def numbers(this: Case) -> dict:
    """What a case must give, by name: outputs, last states, and the gradient of both kinds.

    The gradient is that of sum(upstream * outputs), by central differences.
    """
    outputs, final = run(this.name, this.weights, this.x, this.state, **this.constants)
    slopes = gradient(this.name, this.weights, this.x, this.state, this.upstream)
    return {"outputs": outputs, "final": list(final), "gradient": slopes}


def under_mask(this: Case, mask: np.ndarray) -> dict:
    """The same where `mask` (B, T) skips time steps: each row is run over its valid ones alone.

    A skipped step repeats the output before it, so what comes back to it counts for that one;
    before the first valid step the output is 0.
    """
    outputs, final = np.zeros(this.upstream.shape), [s.astype("float64") for s in this.state]
    slopes = {b: {k: np.zeros(v.shape) for k, v in ks.items()} for b, ks in this.weights.items()}
    names = state_names(this.name)
    slopes["state"] = {k: np.zeros(s.shape) for k, s in zip(names, this.state, strict=True)}
    for row, valid in enumerate(mask):
        at = np.flatnonzero(valid)
        if not len(at):
            continue
        latest = np.searchsorted(at, np.arange(len(valid)), side="right") - 1
        has_output = latest >= 0
        upstream = np.zeros((1, len(at), outputs.shape[-1]))
        np.add.at(upstream[0], latest[has_output], this.upstream[row, has_output])
        one = Case(
            this.name,
            this.dtype,
            this.weights,
            this.x[row : row + 1, at],
            [s[row : row + 1] for s in this.state],
            upstream,
        )
        found = numbers(one)
        outputs[row, has_output] = found["outputs"][0, latest[has_output]]
        for whole, part in zip(final, found["final"], strict=True):
            whole[row] = part[0]
        _add(slopes, found["gradient"], row)
    return {"outputs": outputs, "final": final, "gradient": slopes}


def _add(slopes: dict, more: dict, row: int) -> None:
    """Adds a row's gradient; by initial states each row has its own."""
    for block, keys in more.items():
        for key, value in keys.items():
            if block == "state":
                slopes[block][key][row] += value[0]
            else:
                slopes[block][key] += value


def slope(this: Case, block: str, key: str, direction: np.ndarray, step: float = 1e-5) -> float:
    """The slope of sum(upstream * outputs) along a direction of one weight, by differences."""

    def value(by: float) -> float:
        moved = this.weights[block] | {key: this.weights[block][key] + by * direction}
        outputs, _ = run(this.name, this.weights | {block: moved}, this.x, this.state)
        return float(np.sum(this.upstream * outputs))

    return (value(step) - value(-step)) / (2 * step)
