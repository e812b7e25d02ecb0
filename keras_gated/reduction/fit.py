r"""The weights of a smaller gate, fitted on data to what the full gate was.

The pre-activation of unit j is linear in what the unit sees: $a_j = \theta_j \cdot z_j$, where z
holds x, h, the unit's own memory and 1. A smaller gate keeps some entries of z. Its weights are
those of the full gate, plus the solution of a least squares problem for what was dropped:

$$
\min_{\delta, \beta} \sum_t w_{tj} (\theta^{dropped}_j \cdot z_{tj} - \delta_j \cdot z^{kept}_{tj}
    - \beta_j)^2 + \lambda \|\delta_j\|^2
$$

The weights w are the squared slopes of the activation: where the gate is saturated, an error of the
pre-activation does little. The ridge λ draws towards the old weights; the intercept β is free. At
the end the bias moves so that the mean of the gate is what it was.
"""

from dataclasses import dataclass

import numpy as np
from keras import ops

from keras_gated.engine.formula import Formula
from keras_gated.reduction.recording import Recording
from keras_gated.spec.normal_form import Block

RIDGE = 0.01  # share of the sum of the weights w
ROUNDS = 40  # at most, of the search for the bias
FARTHEST = 40.0  # that a bias may move
NUDGE = 1e-3  # the difference of two pre-activations that stands for a slope


@dataclass
class Term:
    """One term of a pre-activation, and where its entries lie in z.

    Attributes:
        key: of its weight: "kernel", "recurrent_kernel" or "peephole".
        seen: what it sees (N, R).
        own: whether unit j sees entry j alone.
        trained: whether it has a weight. If not, the weight is 1.
        first: position of its first entry.
    """

    key: str
    seen: np.ndarray
    own: bool
    trained: bool
    first: int

    @property
    def entries(self) -> np.ndarray:
        """The positions in z that a unit sees."""
        return self.first + np.arange(1 if self.own else self.seen.shape[1])


class GateFit:
    """The fits of one gate of a layer. All its steps share the sums over the time steps.

    A fit is an array θ (U, D): the weights with which each unit sees z, the bias last. Entries that
    a smaller gate does not see are 0.

    Args:
        formula: of the cell.
        name: of the gate.
        weights: those of its block, by name, as `block_weights` returns them.
        recording: what the layer saw.
    """

    def __init__(self, formula: Formula, name: str, weights: dict, recording: Recording):
        self.block = formula.form.blocks[name]
        self.weights = {k: np.asarray(ops.convert_to_numpy(w), float) for k, w in weights.items()}
        self.units = recording.memory_before.shape[-1]
        self.terms = _terms(formula, name, self.block, recording)
        self._function = formula.activation[name]
        self.theta = self._theta()
        self.a = self.pre_activation(self.theta)
        self.value = self.activation(self.a)
        slope = (self.activation(self.a + NUDGE) - self.activation(self.a - NUDGE)) / (2 * NUDGE)
        self._w = slope**2
        self._sums: np.ndarray | None = None

    # What the gate was

    def _theta(self) -> np.ndarray:
        columns = [self._columns(term) for term in self.terms]
        zeros = np.zeros(self.units)
        bias = self.weights.get("bias", zeros) + self.weights.get("recurrent_bias", zeros)
        return np.concatenate([*columns, bias[:, None]], axis=1)

    def _columns(self, term: Term) -> np.ndarray:
        """The weights of a term (U, entries)."""
        if not term.trained:
            return np.ones((self.units, 1))
        w = self.weights[term.key]
        if term.own:
            return w[:, None]
        return getattr(self.block, term.key).to_matrix(np, w, term.seen.shape[1]).T

    def activation(self, a: np.ndarray) -> np.ndarray:
        """Returns the activation of the gate."""
        return np.asarray(ops.convert_to_numpy(self._function(ops.convert_to_tensor(a))), float)

    def pre_activation(self, theta: np.ndarray) -> np.ndarray:
        """Returns the pre-activation (N, U) that the units have with weights θ."""
        a = np.tile(theta[:, -1], (len(self.terms[0].seen) if self.terms else 1, 1))
        for term in self.terms:
            w = theta[:, term.entries]
            a = a + (term.seen * w[:, 0] if term.own else term.seen @ w.T)
        return a

    def inverse(self, value: float) -> float:
        """Returns the pre-activation at which the activation has a value; NaN if there is none."""
        low, high = -FARTHEST, FARTHEST
        bounds = self.activation(np.array([low, high]))
        if not bounds[0] - 1e-7 <= value <= bounds[1] + 1e-7:
            return float("nan")
        for _ in range(ROUNDS):
            middle = (low + high) / 2
            below = self.activation(np.array([middle]))[0] < value
            low, high = (middle, high) if below else (low, middle)
        return high

    # What a smaller gate is

    def copied(self, smaller: Block) -> np.ndarray:
        """Returns θ of a smaller gate that keeps its old weights; the bias takes up the mean."""
        theta = np.where(self._dropped(smaller), 0.0, self.theta)
        if smaller.use_bias:
            theta[:, -1] += (self.a - self.pre_activation(theta)).mean(axis=0)
        return theta

    def fitted(self, smaller: Block) -> np.ndarray:
        """Returns θ of a smaller gate that was fitted to this one."""
        dropped = self._dropped(smaller)
        theta = np.where(dropped, 0.0, self.theta)
        if not dropped.any():
            return theta
        delta, entries = self._solve(dropped, self._fitted_entries(smaller))
        np.put_along_axis(theta, entries, np.take_along_axis(theta, entries, 1) + delta, 1)
        return self._meet_mean(theta) if smaller.use_bias else theta

    def _solve(self, dropped: np.ndarray, entries: np.ndarray) -> tuple:
        """The solution (U, K) of the least squares problem, for the entries (U, K) of z."""
        bias, total = self.theta.shape[1] - 1, self._w.sum(axis=0)
        ridge = np.where(entries == bias, 1e-9, RIDGE) * total[:, None] + 1e-12
        lost = np.where(dropped, self.theta, 0.0)
        delta = np.zeros(entries.shape)
        for j, (sums, seen) in enumerate(zip(self.sums, entries, strict=True)):
            square = sums[np.ix_(seen, seen)] + np.diag(ridge[j])
            delta[j] = np.linalg.solve(square, sums[seen] @ lost[j])
        return delta, entries

    @property
    def sums(self) -> np.ndarray:
        """The sums over time steps of w z zᵀ, for each unit (U, D, D)."""
        if self._sums is None:
            self._sums = np.stack([self._sums_of_unit(j) for j in range(self.units)])
        return self._sums

    def forget_sums(self) -> None:
        """Frees the sums, which take U D² numbers; they are computed again when asked for."""
        self._sums = None

    def _sums_of_unit(self, j: int) -> np.ndarray:
        seen = [term.seen[:, j : j + 1] if term.own else term.seen for term in self.terms]
        z = np.concatenate([*seen, np.ones((len(self._w), 1))], axis=1, dtype="float32")
        return (z * self._w[:, j, None].astype("float32")).T @ z

    def _meet_mean(self, theta: np.ndarray) -> np.ndarray:
        """θ with the bias with which the mean of each unit is that of the full gate.

        Newton's method inside an interval. Where no bias in it gives the mean, the bias stays.
        """
        a, mean = self.pre_activation(theta), self.value.mean(axis=0)
        low, high = np.full(self.units, -FARTHEST), np.full(self.units, FARTHEST)
        reached = self.activation(a + low).mean(0) <= mean
        reached &= mean <= self.activation(a + high).mean(0)
        shift = np.zeros(self.units)
        for _ in range(ROUNDS):
            error = self.activation(a + shift).mean(axis=0) - mean
            slope = (self.activation(a + shift + NUDGE).mean(axis=0) - mean - error) / NUDGE
            low, high = np.where(error < 0, shift, low), np.where(error < 0, high, shift)
            better = shift - error / np.where(slope > 1e-12, slope, np.inf)
            inside = (low <= better) & (better <= high)
            shift = np.where(inside, better, (low + high) / 2)
            if np.abs(error[reached]).max(initial=0.0) < 1e-9:
                break
        theta[:, -1] += np.where(reached, shift, 0.0)
        return theta

    # Which entries of z a smaller gate sees

    def _fitted_entries(self, smaller: Block) -> np.ndarray:
        """Positions (U, K) of the entries with a weight that is fitted."""
        entries = [self._entries(term, smaller) for term in self.terms if term.trained]
        last = [np.full((self.units, 1), self.theta.shape[1] - 1)] * smaller.use_bias
        nothing = np.empty((self.units, 0), int)
        return np.concatenate([nothing, *entries, *last], axis=1)

    def _dropped(self, smaller: Block) -> np.ndarray:
        """Bool (U, D): entries that the smaller gate does not see."""
        sees = np.zeros(self.theta.shape, bool)
        for term in self.terms:
            np.put_along_axis(sees, self._entries(term, smaller), True, 1)
        sees[:, -1] = True
        return ~sees

    def _entries(self, term: Term, smaller: Block) -> np.ndarray:
        """Positions (U, entries) in z that each unit of a smaller gate sees through a term."""
        kind = getattr(smaller, term.key)
        if not kind:
            return np.empty((self.units, 0), int)
        if not term.own and not kind.mixes_units:  # a diagonal in place of a matrix
            return term.first + np.arange(self.units)[:, None]
        groups = 1 if term.own else kind.groups
        by_group = np.reshape(term.entries, (groups, -1))
        return np.repeat(by_group, self.units // groups, axis=0)

    # As weights

    def weights_of(self, theta: np.ndarray, smaller: Block) -> dict[str, np.ndarray]:
        """Returns the weights of the smaller gate's block, by name, for its θ."""
        weights = {}
        for term in self.terms:
            entries = self._entries(term, smaller)
            if term.trained and entries.size:
                w = np.take_along_axis(theta, entries, 1)
                weights[term.key] = w[:, 0] if term.own else self._weight(term, smaller, entries, w)
        return weights | self._biases(theta, smaller)

    def _weight(self, term: Term, smaller: Block, entries: np.ndarray, w: np.ndarray) -> np.ndarray:
        """The weight of a term of the smaller gate whose units see `entries` (U, K) by w (U, K)."""
        matrix = np.zeros((self.units, term.seen.shape[1]))
        np.put_along_axis(matrix, entries - term.first, w, 1)
        return getattr(smaller, term.key).from_matrix(np, matrix.T)

    def _biases(self, theta: np.ndarray, smaller: Block) -> dict[str, np.ndarray]:
        """The biases of the smaller gate."""
        weights = {}
        if smaller.use_bias:
            second = self.weights.get("recurrent_bias", np.zeros(self.units))
            second = second if smaller.use_recurrent_bias else 0.0 * second
            weights["bias"] = theta[:, -1] - second
            weights |= {"recurrent_bias": second} if smaller.use_recurrent_bias else {}
        return weights


def _terms(formula: Formula, name: str, block: Block, recording: Recording) -> list[Term]:
    """The terms of a gate that have entries in z, in order."""
    h = recording.before["h"]
    memory = recording.values["c"] if block.peephole == "current" else None
    memory = recording.memory_before if memory is None else memory
    seen = {
        "kernel": (block.kernel, formula.phi_x[name], recording.x),
        "recurrent_kernel": (block.recurrent_kernel, formula.phi_h[name], h),
        "peephole": (block.peephole, None, memory),
    }
    terms: list[Term] = []
    for key, (kind, phi, x) in seen.items():
        if kind:
            x = np.asarray(ops.convert_to_numpy(phi(x)) if phi else x, float)
            own = key == "peephole" or not kind.mixes_units
            trained = key == "peephole" or kind.weight_name(key) is not None
            first = terms[-1].entries[-1] + 1 if terms else 0
            terms.append(Term(key, x, own, trained, first))
    return terms
