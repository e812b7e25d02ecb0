r"""A gated recurrent cell as a setting of one formula.

All cells of this package are this formula. In each of them some parts are absent, constant, tied
to another part, or have smaller kernels:

$$
\begin{aligned}
a_k &= W_k x_t + U_k h_{t-1} + p_k \odot c^* + b_k \\
\tilde{c}_t &= g(W_c x_t + U_c (r_t \odot h_{t-1}) + b_c)
    \quad\text{or}\quad g(W_c x_t + b_c + r_t \odot (U_c h_{t-1} + b'_c)) \\
c_t &= \mu(f_t \odot \kappa(c_{t-1}) + i_t \odot \tilde{c}_t) \\
h_t &= o_t \odot \varphi(c_t)
\end{aligned}
$$

`i`, `f`, `r`, `o` are the input, forget, reset and output gates. The first line is the
pre-activation of gate k. Its peephole `p_k` sees `c*`, which is `c_{t-1}` for the input and forget
gates and `c_t` for the output gate. The candidate has two forms: the reset gate acts before or
after the recurrent product. With `memory="hidden"` there is one state: h is the memory, `o = 1` and
`φ` is the identity. A part that is rare is in the argument that sets it.

`CellSpec` is a frozen dataclass that checks its fields. This file needs the standard library only.
"""

from collections.abc import Hashable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple

from keras_gated.spec.config import Part
from keras_gated.spec.parts import Candidate, Gate, Projection, Tied, as_gate, check_bools, freeze
from keras_gated.spec.rare_parts import GATES, check_rare_parts


class GateSource(NamedTuple):
    """Where the value of a gate comes from, after all ties are followed.

    Attributes:
        name: the gate at the end of the ties; the gate's own name if it is not tied.
        gate: that `Gate`, or its constant.
        complement: whether the value is `1 - v`, not `v`.
        offset: what is added to the pre-activation.
    """

    name: str
    gate: "Gate | float"
    complement: bool
    offset: float

    @property
    def constant(self) -> float | None:
        """The value if it is constant, else None."""
        if isinstance(self.gate, Gate):
            return None
        return 1.0 - self.gate if self.complement else self.gate


@dataclass(frozen=True)
class CellSpec(Part):
    """A specification: the formula with every part set. The default is the LSTM without peepholes.

    The memory is `c_t = μ(f ⊙ κ(c_{t-1}) + i ⊙ c̃_t)` and the output `h_t = o ⊙ φ(c_t)`; c̃ is the
    candidate. Each of the four gate arguments takes a `Gate`, a `Tied`, a number (the gate is
    constant), True (`Gate()`) or False (the gate is absent: the constant 1.0).

    Args:
        memory: "cell" (two states, h and c) or "hidden" (one state: h is the memory).
        input_gate: i, how much of the candidate is written to the memory.
        forget_gate: f, how much of the memory is carried on.
        output_gate: o, how much of the memory is output. None is `Gate()` with `memory="cell"`, and
            absent with "hidden".
        reset_gate: r, how much of `h_{t-1}` the candidate sees.
        candidate: a `Candidate`.
        output_activation: name or config of φ. None is the candidate's activation. With
            `memory="hidden"` it is the identity.
        recurrent_activation: name or config of the activation of all gates that set none.
        use_bias: bool, for all gates and the candidate where they do not set it.
        memory_activation: rare. Name or config of μ (STAR).
        carry_activation: rare. Name or config of κ (CFN).
        input_skip: rare. Whether the output also shows the input, `h_t = o ⊙ φ(c_t) + (1 - o) ⊙
            x_t` (SRU). Needs `memory="cell"`, an output gate, and as many inputs as units.
        input_scale: rare. None, or "root": what is written is also multiplied by `√(1 - f²)`
            (RG-LRU), so that the memory is as large as the candidate. The forget gate is then
            between 0 and 1: its activation is "sigmoid", or it is a constant.
        normalizer: rare. Whether the memory is divided by the sum of what was written (sLSTM): a
            third state `n_t = f ⊙ n_{t-1} + i`, and `h_t = o ⊙ φ(c_t / n_t)`. The input and forget
            gates have the activation "exp" or "sigmoid", or are constants > 0. A fourth state m
            keeps all numbers finite: c and n are stored times exp(-m), so h does not depend on m.
        gate_recurrence: rare. Whether the input, forget and output gates also see the values of
            these three gates of the previous time step, each through a dense kernel (Greff's FGR).
        input_projection: rare. A `Projection` of `x_t` (MinimalRNN), or None.
        input_window: rare. int >= 1. How many inputs the cell sees side by side: `x_t`, `x_{t-1}`
            and so on (QRNN).
        normalize_gates: rare. Whether the input and the forget gate are divided by their sum
            (minLSTM). Both need weights of their own, and an activation that is never 0. Gates tied
            to them follow the divided ones.

    Raises:
        ValueError: if a part has no meaning in the formula. The message says which part, what was
            expected and what to do.
        TypeError: if a gate is none of the kinds above.

    Example:
        The GRU, whose update gate is the forget gate here:

        >>> spec = kg.CellSpec(
        ...     memory="hidden",
        ...     input_gate=kg.Tied("forget", complement=True),
        ...     reset_gate=True,
        ...     candidate=kg.Candidate(reset_after=True),
        ... )
        >>> spec == kg.preset("gru")
        True
        >>> layer = kg.GatedRNN(32, spec)
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
    input_skip: bool = field(default=False, metadata={"format": 2})
    input_scale: str | None = field(default=None, metadata={"format": 2})
    normalizer: bool = field(default=False, metadata={"format": 2})
    gate_recurrence: bool = False
    input_projection: Projection | None = None
    input_window: int = 1
    normalize_gates: bool = field(default=False, metadata={"format": 2})

    def __post_init__(self):
        if self.output_gate is None:
            object.__setattr__(self, "output_gate", self.memory == "cell")
        for name in GATES:
            object.__setattr__(self, f"{name}_gate", as_gate(self.gate(name), f"{name}_gate"))
        check_bools(self)
        freeze(self, "output_activation", "recurrent_activation")
        freeze(self, "memory_activation", "carry_activation")
        _validate(self)

    def _defaults(self) -> dict:
        # Whether there is an output gate depends on the memory.
        return super()._defaults() | {"output_gate": as_gate(self.memory == "cell", "output_gate")}

    def gate(self, name: str) -> Any:
        """Returns the gate called `name`: "input", "forget", "reset" or "output"."""
        return getattr(self, f"{name}_gate")

    def source(self, name: str) -> GateSource:
        """Returns where the gate called `name` gets its value, with all ties followed.

        Raises:
            ValueError: if the ties form a circle.
        """
        complement, offset, seen = False, 0.0, [name]
        while isinstance(tie := self.gate(seen[-1]), Tied):
            complement, offset = complement != tie.complement, offset + tie.offset
            if tie.to in seen:
                raise ValueError(
                    f"Argument `{name}_gate` must be tied to a gate that has weights or is "
                    f"constant. Received ties that form a circle: {' -> '.join([*seen, tie.to])}. "
                    "Give one of these gates its own weights, with Gate()."
                )
            seen.append(tie.to)
        return GateSource(seen[-1], tie, complement, offset)


def has_bias(spec: CellSpec, part: Gate | Candidate) -> bool:
    """Returns whether a gate or the candidate of `spec` has a bias."""
    return spec.use_bias if part.use_bias is None else part.use_bias


def _validate(spec: CellSpec) -> None:
    _check_types(spec)
    _check_memory(spec)
    _check_reset(spec)
    _check_ties(spec)
    _check_terms(spec)
    _check_rare(spec)
    check_rare_parts(spec)
    _check_dynamics(spec)


def _sees_state(spec: CellSpec) -> bool:
    """Returns whether the candidate sees h_{t-1}. A reset gate that is 0 removes it."""
    return spec.candidate.recurrent_kernel is not None and spec.source("reset").constant != 0.0


def _check_types(spec: CellSpec) -> None:
    if not isinstance(spec.candidate, Candidate):
        raise TypeError(
            "Argument `candidate` must be a keras_gated.Candidate. "
            f"Received: candidate={spec.candidate!r}. To set the activation, pass "
            "Candidate(activation=...)."
        )
    if not isinstance(spec.input_projection, Projection | None):
        raise TypeError(
            "Argument `input_projection` must be a keras_gated.Projection or None. "
            f"Received: input_projection={spec.input_projection!r}. Pass Projection()."
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
            "Argument `output_gate` must be absent (False or 1.0) with memory='hidden', because "
            f"there the memory is the output. Received: output_gate={spec.output_gate!r}. "
            "For an output gate use memory='cell'."
        )
    if spec.output_activation not in (None, "linear"):
        raise ValueError(
            "Argument `output_activation` must be None or 'linear' with memory='hidden', because "
            "there the memory is the output. "
            f"Received: output_activation={spec.output_activation!r}. "
            "For an output activation use memory='cell'."
        )
    for name in GATES:
        if getattr(spec.gate(name), "peephole", False):
            raise ValueError(
                f"Argument `peephole` of `{name}_gate` must be False with memory='hidden', because "
                "a peephole sees the state c. "
                f"Received: peephole={spec.gate(name).peephole!r} with memory='hidden'. "
                "Use memory='cell', or peephole=False."
            )


def _check_reset(spec: CellSpec) -> None:
    candidate = spec.candidate
    if candidate.reset_all and spec.source("reset").constant == 0.0:
        raise ValueError(
            "Argument `reset_gate` must not be 0 with Candidate(reset_all=True): the candidate "
            "would see nothing. Received: reset_gate=0.0. Leave out the reset gate, or give it "
            "weights."
        )
    if spec.reset_gate != 1.0 and candidate.recurrent_kernel is None and not candidate.reset_all:
        raise ValueError(
            "Argument `reset_gate` must be absent (False or 1.0) if the candidate does not see "
            f"h_(t-1): there is nothing to reset. Received: reset_gate={spec.reset_gate!r} with "
            "Candidate(recurrent_kernel=None). Leave out the reset gate, or give the candidate a "
            "recurrent kernel."
        )
    if getattr(spec.reset_gate, "peephole", False):
        raise ValueError(
            "Argument `peephole` of `reset_gate` must be False: only the input, forget and output "
            "gates can have peepholes. Received: peephole=True."
        )


def _check_ties(spec: CellSpec) -> None:
    for name in GATES:
        source = spec.source(name)
        if source.constant is not None and source.offset:
            raise ValueError(
                f"Argument `offset` of `{name}_gate` must be 0 if the gate is tied to a constant, "
                f"which has no pre-activation. Received: offset={source.offset!r}. "
                f"Set `{name}_gate` to the number that you want."
            )


def _check_terms(spec: CellSpec) -> None:
    parts = {f"{name}_gate": spec.gate(name) for name in GATES}
    for argument, part in {**parts, "candidate": spec.candidate}.items():
        if not isinstance(part, Gate | Candidate):
            continue
        recurrent = _sees_state(spec) if part is spec.candidate else part.recurrent_kernel
        terms = (part.kernel, recurrent, has_bias(spec, part), getattr(part, "peephole", False))
        terms += (getattr(part, "shares", None),)
        others = spec.gate_recurrence and argument not in ("candidate", "reset_gate")
        if not (any(terms) or others):
            raise ValueError(
                f"Argument `{argument}` must have at least one term: a kernel, a recurrent kernel, "
                f"a bias or a peephole. Received: {argument}={part!r}, which has none. "
                "For a constant gate pass a number."
            )


def _check_rare(spec: CellSpec) -> None:
    own = all(isinstance(spec.gate(name), Gate) for name in ("input", "forget", "output"))
    if spec.gate_recurrence and not (own and spec.memory == "cell"):
        raise ValueError(
            "Argument `gate_recurrence` needs memory='cell', and input, forget and output gates "
            f"that have their own weights. Received: gate_recurrence=True with {spec!r}."
        )
    if not isinstance(spec.input_window, int) or spec.input_window < 1:
        raise ValueError(
            "Argument `input_window` must be an integer >= 1: the number of inputs that the cell "
            f"sees at each time step. Received: input_window={spec.input_window!r}."
        )


def _check_dynamics(spec: CellSpec) -> None:
    """Refuses a cell whose state nothing reads: its forget gate is 0 and nothing is recurrent."""
    sources = [spec.source(name) for name in GATES]
    gates = [source.gate for source in sources if isinstance(source.gate, Gate)]
    reads_h = [_sees_state(spec), *(gate.recurrent_kernel for gate in gates)]
    peepholes = [(s.name, getattr(s.gate, "peephole", False)) for s in sources]
    # The output gate's peephole sees c_t, not the state that is carried over.
    reads_c = [p and (name != "output" or p == "previous") for name, p in peepholes]
    reads = [*reads_h, *reads_c]
    if spec.source("forget").constant == 0.0 and not (any(reads) or spec.gate_recurrence):
        raise ValueError(
            "Argument `forget_gate` must not be 0 if nothing else reads the state: the cell would "
            "have no memory. Received: forget_gate=0.0 and no recurrent kernel in any gate or in "
            "the candidate. Add a recurrent kernel, or use a forget gate."
        )
