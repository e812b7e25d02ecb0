r"""What a gated recurrent cell is: one formula, its parts present, absent, tied or cut down.

$$
\begin{aligned}
a_k &= W_k x_t + U_k h_{t-1} + p_k \odot c^* + b_k \\
\tilde{c}_t &= g(W_c x_t + U_c (r_t \odot h_{t-1}) + b_c)
    \quad\text{or}\quad g(W_c x_t + b_c + r_t \odot (U_c h_{t-1} + b'_c)) \\
c_t &= \mu(f_t \odot \kappa(c_{t-1}) + i_t \odot \tilde{c}_t) \\
h_t &= o_t \odot \varphi(c_t)
\end{aligned}
$$

`i`, `f`, `r`, `o` are the input, forget, reset and output gates; `c*` is `c_{t-1}` for the input
and forget gates and `c_t` for the output gate. With `memory="hidden"` there is one state: h is the
memory, `o = 1`, `φ` is the identity. Pure data, standard library only.
"""

from collections.abc import Hashable
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

from keras_gated.spec.parts import Candidate, Gate, Part, Projection, Tied, as_gate

GATES = ("input", "forget", "reset", "output")


class Source(NamedTuple):
    """What a gate comes from once its ties are followed: `v` or `1 - v`, of a gate or number."""

    name: str
    gate: "Gate | float"
    complement: bool
    offset: float

    @property
    def constant(self) -> float | None:
        """The value, where it is constant."""
        if isinstance(self.gate, Gate):
            return None
        return 1.0 - self.gate if self.complement else self.gate


@dataclass(frozen=True)
class CellSpec(Part):
    """Which setting of the formula a cell is; the default is the LSTM without peepholes.

    Every `*_gate` takes a `Gate`, a `Tied`, a number (a constant gate; 1.0 = absent), True (a
    `Gate()`) or False (absent, 1.0).

    Args:
        memory: "cell" (two states, h and c) or "hidden" (one state, h is the memory).
        input_gate: how much of the candidate is written.
        forget_gate: how much of the memory is kept.
        output_gate: how much of the memory is shown; None is a `Gate()` with `memory="cell"`. With
            "hidden" there is none.
        reset_gate: how much of `h_{t-1}` the candidate sees.
        candidate: a `Candidate`.
        output_activation: name or config of φ; None is the candidate's activation. With
            `memory="hidden"` it is the identity.
        recurrent_activation: name or config: the activation of gates that name none.
        use_bias: bool, for gates and the candidate where they do not say.
        memory_activation: rare. Name or config of μ (STAR).
        carry_activation: rare. Name or config of κ (CFN).
        gate_recurrence: rare. Whether every gate also sees the three gates of the step before,
            with a dense kernel each (Greff's FGR).
        input_projection: rare. A `Projection` of `x_t` (MinimalRNN), or None.
        input_window: rare. int >= 1: the cell sees `x_t, x_{t-1}, ...`, so many of them (QRNN).

    Raises:
        ValueError: if a part has no meaning, says which, what was expected and what to do.
        TypeError: if a gate is of none of the kinds above.
    """

    memory: str = "cell"
    input_gate: Any = True
    forget_gate: Any = True
    output_gate: Any = None
    reset_gate: Any = 1.0
    candidate: Candidate = Candidate()
    output_activation: Hashable = None
    recurrent_activation: Hashable = "sigmoid"
    use_bias: bool = True
    _: KW_ONLY
    memory_activation: Hashable = "linear"
    carry_activation: Hashable = "linear"
    gate_recurrence: bool = False
    input_projection: Projection | None = None
    input_window: int = 1

    def __post_init__(self):
        if self.output_gate is None:
            object.__setattr__(self, "output_gate", self.memory == "cell")
        for name in GATES:
            object.__setattr__(self, f"{name}_gate", as_gate(self.gate(name), f"{name}_gate"))
        self._freeze("output_activation", "recurrent_activation")
        self._freeze("memory_activation", "carry_activation")
        _validate(self)

    def gate(self, name: str) -> Any:
        """Returns the gate called `name`: "input", "forget", "reset" or "output"."""
        return getattr(self, f"{name}_gate")

    def source(self, name: str) -> Source:
        """Follows the ties of the gate called `name`.

        Raises:
            ValueError: if they go in a circle.
        """
        complement, offset, seen = False, 0.0, [name]
        while isinstance(tie := self.gate(seen[-1]), Tied):
            complement, offset = complement != tie.complement, offset + tie.offset
            if tie.to in seen:
                raise ValueError(
                    f"Argument `{name}_gate` must be tied to a gate that has weights or is "
                    f"constant. Received a circle: {' -> '.join([*seen, tie.to])}. "
                    "Give one of these gates weights of its own, with Gate()."
                )
            seen.append(tie.to)
        return Source(seen[-1], tie, complement, offset)


def biased(spec: CellSpec, part: Gate | Candidate) -> bool:
    """Whether a part of `spec` has a bias."""
    return spec.use_bias if part.use_bias is None else part.use_bias


def _validate(spec: CellSpec) -> None:
    _check_types(spec)
    _check_memory(spec)
    _check_reset(spec)
    _check_ties(spec)
    _check_terms(spec)
    _check_rare(spec)
    _check_dynamics(spec)


def _sees_state(spec: CellSpec) -> bool:
    """Whether the candidate sees h_{t-1}: not through a reset gate that is 0."""
    return spec.candidate.recurrent_kernel is not None and spec.source("reset").constant != 0.0


def _check_types(spec: CellSpec) -> None:
    if not isinstance(spec.candidate, Candidate):
        raise TypeError(
            "Argument `candidate` must be a keras_gated.Candidate. "
            f"Received: candidate={spec.candidate!r}. For another activation give "
            "Candidate(activation=...)."
        )
    if not isinstance(spec.input_projection, Projection | None):
        raise TypeError(
            "Argument `input_projection` must be a keras_gated.Projection or None. "
            f"Received: input_projection={spec.input_projection!r}. Give Projection()."
        )


def _check_memory(spec: CellSpec) -> None:
    if spec.memory not in ("cell", "hidden"):
        raise ValueError(
            "Argument `memory` must be 'cell' (two states, h and c) or 'hidden' (one state, h). "
            f"Received: memory={spec.memory!r}."
        )
    if spec.memory == "cell":
        return
    if spec.output_gate != 1.0:
        raise ValueError(
            "Argument `output_gate` must be absent (False or 1.0) with memory='hidden', where the "
            f"memory itself is the output. Received: output_gate={spec.output_gate!r}. "
            "Use memory='cell' for an output gate."
        )
    if spec.output_activation not in (None, "linear"):
        raise ValueError(
            "Argument `output_activation` must be None or 'linear' with memory='hidden', where the "
            f"memory itself is the output. Received: output_activation={spec.output_activation!r}. "
            "Use memory='cell' for an output activation."
        )
    for name in GATES:
        if getattr(spec.gate(name), "peephole", False):
            raise ValueError(
                f"Argument `peephole` of `{name}_gate` needs a memory cell to look at. Received: "
                "peephole=True with memory='hidden'. Use memory='cell', or peephole=False."
            )


def _check_reset(spec: CellSpec) -> None:
    if spec.reset_gate != 1.0 and spec.candidate.recurrent_kernel is None:
        raise ValueError(
            "Argument `reset_gate` must be absent (False or 1.0) where the candidate does not see "
            f"h_(t-1): there is nothing to reset. Received: reset_gate={spec.reset_gate!r} with "
            "Candidate(recurrent_kernel=None). Drop the reset gate, or give the candidate a "
            "recurrent kernel."
        )
    if getattr(spec.reset_gate, "peephole", False):
        raise ValueError(
            "Argument `peephole` of `reset_gate` must be False: the formula has peepholes into the "
            "input, forget and output gates. Received: peephole=True."
        )


def _check_ties(spec: CellSpec) -> None:
    for name in GATES:
        source = spec.source(name)
        if source.constant is not None and source.offset:
            raise ValueError(
                f"Argument `offset` of `{name}_gate` must be 0 where the tie ends at a constant, "
                f"which has no pre-activation. Received: offset={source.offset!r}. "
                f"Give `{name}_gate` the number that you want."
            )


def _check_terms(spec: CellSpec) -> None:
    parts = {f"{name}_gate": spec.gate(name) for name in GATES}
    for argument, part in {**parts, "candidate": spec.candidate}.items():
        if not isinstance(part, Gate | Candidate):
            continue
        recurrent = _sees_state(spec) if part is spec.candidate else part.recurrent_kernel
        terms = (part.kernel, recurrent, biased(spec, part), getattr(part, "peephole", False))
        others = spec.gate_recurrence and argument not in ("candidate", "reset_gate")
        if not (any(terms) or others):
            raise ValueError(
                f"Argument `{argument}` must have a term: a kernel, a recurrent kernel, a bias or "
                f"a peephole. Received: {argument}={part!r} with none. "
                "Give a number for a constant gate."
            )


def _check_rare(spec: CellSpec) -> None:
    own = all(isinstance(spec.gate(name), Gate) for name in ("input", "forget", "output"))
    if spec.gate_recurrence and not (own and spec.memory == "cell"):
        raise ValueError(
            "Argument `gate_recurrence` needs memory='cell' and input, forget and output gates "
            f"with weights of their own. Received: gate_recurrence=True with {spec!r}."
        )
    if not isinstance(spec.input_window, int) or spec.input_window < 1:
        raise ValueError(
            "Argument `input_window` must be an integer >= 1, the number of time steps that the "
            f"cell sees at once. Received: input_window={spec.input_window!r}."
        )


def _check_dynamics(spec: CellSpec) -> None:
    live = [spec.source(name).gate for name in GATES]
    gates = [gate for gate in live if isinstance(gate, Gate)]
    reads = [_sees_state(spec), *(gate.recurrent_kernel for gate in gates)]
    owners = [spec.source(name).name for name in GATES]
    reads += [
        getattr(g, "peephole", False) and k != "output" for k, g in zip(owners, live, strict=True)
    ]
    if spec.source("forget").constant == 0.0 and not (any(reads) or spec.gate_recurrence):
        raise ValueError(
            "Argument `forget_gate` must not be 0 where nothing else reads the state: the cell "
            "would have no memory. Received: forget_gate=0.0 and no recurrent kernel anywhere. "
            "Give the candidate or a gate a recurrent kernel, or keep a forget gate."
        )
