"""The normal form of a specification, which every other room reads.

Here ties are followed, constants folded, defaults filled in, blocks put in order and weights laid
out; nobody else interprets a tie, computes an offset or knows the order of blocks.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import lru_cache

from keras_gated.spec.cell_spec import GATES, CellSpec, biased
from keras_gated.spec.parts import Candidate, Gate, Projection

BLOCKS = ("input", "forget", "reset", "candidate", "output")
RECURRENT_SOURCES = ("input", "forget", "output")  # of gate recurrence, in this order


@dataclass(frozen=True)
class Block:
    """The weights of one gate, or of the candidate, nothing left to be filled in."""

    name: str
    kernel: str | None
    recurrent_kernel: str | None
    use_bias: bool
    use_recurrent_bias: bool
    peephole: bool
    gate_recurrence: bool
    activation: Hashable
    bias_initializer: Hashable
    input_activation: Hashable
    recurrent_input_activation: Hashable

    @property
    def input_only(self) -> bool:
        """Whether the block sees nothing but `x_t`."""
        return not (self.recurrent_kernel or self.peephole or self.gate_recurrence)


@dataclass(frozen=True)
class Value:
    """A gate's value: a constant, or `v = activation(a + offset)` of a block, or `1 - v`."""

    constant: float | None = None
    block: str | None = None
    offset: float = 0.0
    complement: bool = False


@dataclass(frozen=True)
class Weight:
    """One weight of the cell, which holds `blocks` side by side on its last axis.

    `keys` are the names of the parts in `block_weights`; two of them are rows of a first axis.
    `rows` is "input" or "state" for a matrix with one row for each input or unit, "gates" for one
    with a row for each unit of the three gates, None for a vector.
    """

    name: str
    keys: tuple[str, ...]
    blocks: tuple[str, ...]
    rows: str | None = None

    def shape(self, input_dim: int, units: int, output_dim: int | None = None) -> tuple[int, ...]:
        """Returns the shape for a step of `input_dim` features (the window included).

        `output_dim` is the size of h, if it is not that of the memory.
        """
        columns = len(self.blocks) * units
        gates = len(RECURRENT_SOURCES) * units
        rows = {"input": input_dim, "state": output_dim or units, "gates": gates}
        if self.rows is not None:
            return (rows[self.rows], columns)
        return (len(self.keys), columns) if len(self.keys) > 1 else (columns,)


@dataclass(frozen=True)
class NormalForm:
    """A specification resolved. Activations are names, Configs or functions; "linear" is none.

    `reset` says where the reset gate acts: "none", "before" or "after" the recurrent product.
    """

    memory: str
    blocks: dict[str, Block]
    gates: dict[str, Value]
    reset: str
    output_activation: Hashable
    memory_activation: Hashable
    carry_activation: Hashable
    gate_recurrence: bool
    projection: Projection | None
    window: int
    weights: tuple[Weight, ...]

    @property
    def candidate(self) -> Block:
        """The candidate's block."""
        return self.blocks["candidate"]

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states, in order: h, c and, with gate recurrence, the gates before."""
        names = ("h", "c") if self.memory == "cell" else ("h",)
        return names + (RECURRENT_SOURCES if self.gate_recurrence else ())

    @property
    def memory_at(self) -> int:
        """Which of the states is the memory."""
        return self.states.index("c" if self.memory == "cell" else "h")

    @property
    def square(self) -> tuple[str, ...]:
        """Names of the blocks that need as many inputs as units."""
        if self.projection:
            return ()
        kinds = ("diagonal", "identity")
        return tuple(name for name, block in self.blocks.items() if block.kernel in kinds)

    @property
    def linear_memory(self) -> bool:
        """Whether `c_t` is linear in `c_{t-1}`, with coefficients that x_t alone decides."""
        before = [block for name, block in self.blocks.items() if name != "output"]
        output = self.blocks.get("output")
        return (
            self.memory_activation == self.carry_activation == "linear"
            and all(block.input_only for block in before)
            and (output is None or not (output.recurrent_kernel or output.gate_recurrence))
        )

    def check_input_dim(self, input_dim: int, units: int) -> None:
        """Raises a ValueError if the cell cannot have `input_dim` inputs and `units` units."""
        if self.square and self.window * input_dim != units:
            raise ValueError(
                f"Argument `units` must equal the number of input features for this cell, whose "
                f"{' and '.join(self.square)} sees each input one to one (a diagonal or identity "
                f"kernel). Received: units={units}, input features={input_dim} in a window of "
                f"{self.window} time steps. Project the input first: keras.layers.Dense before "
                "the layer, or input_projection=keras_gated.Projection() in the specification."
            )

    def shapes(
        self, input_dim: int, units: int, output_dim: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each weight, in order, for `input_dim` features per time step.

        `output_dim` is the size of h, if it is not that of the memory.

        Raises:
            ValueError: if a diagonal or identity kernel does not fit.
        """
        self.check_input_dim(input_dim, units)
        seen = self.window * input_dim
        sizes = {w.name: seen for w in self.weights}
        if self.projection:
            sizes = {w.name: units for w in self.weights} | {"projection_kernel": seen}
        return {w.name: w.shape(sizes[w.name], units, output_dim) for w in self.weights}


@lru_cache(maxsize=1024)
def resolve(spec: CellSpec) -> NormalForm:
    """Returns the normal form of `spec`."""
    gates = {name: _value(spec, name) for name in GATES}
    reset = _reset(spec, gates["reset"])
    parts = {name: spec.gate(name) for name in GATES} | {"candidate": spec.candidate}
    if gates["reset"].constant == 0.0:
        parts["candidate"] = replace(spec.candidate, recurrent_kernel=None)
    own = {name: parts[name] for name in BLOCKS if isinstance(parts[name], Gate | Candidate)}
    second_bias = reset == "after" and _has_second_bias(spec, gates["reset"])
    blocks = {name: _block(spec, name, part, second_bias) for name, part in own.items()}
    hidden = spec.memory == "hidden"
    return NormalForm(
        memory=spec.memory,
        blocks=blocks,
        gates=gates,
        reset=reset,
        output_activation="linear"
        if hidden
        else spec.output_activation or spec.candidate.activation,
        memory_activation=spec.memory_activation,
        carry_activation=spec.carry_activation,
        gate_recurrence=spec.gate_recurrence,
        projection=spec.input_projection,
        window=spec.input_window,
        weights=_weights(blocks, spec.input_projection),
    )


def _value(spec: CellSpec, name: str) -> Value:
    source = spec.source(name)
    if source.constant is not None:
        return Value(constant=source.constant)
    return Value(block=source.name, offset=source.offset, complement=source.complement)


def _reset(spec: CellSpec, value: Value) -> str:
    if value.constant in (0.0, 1.0):
        return "none"
    return "after" if spec.candidate.reset_after else "before"


def _has_second_bias(spec: CellSpec, reset: Value) -> bool:
    """Whether there is a bias inside the reset; a constant reset would make it redundant."""
    candidate = spec.candidate
    return reset.constant is None and candidate.use_recurrent_bias and biased(spec, candidate)


def _block(spec: CellSpec, name: str, part: Gate | Candidate, second_bias: bool) -> Block:
    own = part.activation is not None
    return Block(
        name=name,
        kernel=part.kernel,
        recurrent_kernel=part.recurrent_kernel,
        use_bias=biased(spec, part),
        use_recurrent_bias=biased(spec, part) and second_bias,
        peephole=getattr(part, "peephole", False),
        gate_recurrence=spec.gate_recurrence and name in RECURRENT_SOURCES,
        activation=part.activation if own else spec.recurrent_activation,
        bias_initializer=getattr(part, "bias_initializer", None),
        input_activation=part.input_activation,
        recurrent_input_activation=getattr(part, "recurrent_input_activation", None),
    )


def _weights(blocks: dict[str, Block], projection: Projection | None) -> tuple[Weight, ...]:
    """Lays out the weights that have blocks: Keras's three first, then the others."""

    def having(field: str, value) -> tuple[str, ...]:
        return tuple(name for name, block in blocks.items() if getattr(block, field) == value)

    u, r = "recurrent_kernel", "gate_recurrent_kernel"
    biases = ("bias", "recurrent_bias") if having("use_recurrent_bias", True) else ("bias",)
    inner = ("projection",) if projection else ()
    biased = inner if projection and projection.use_bias else ()
    weights = (
        Weight("kernel", ("kernel",), having("kernel", "dense"), "input"),
        Weight(u, (u,), having(u, "dense"), "state"),
        Weight("bias", biases, having("use_bias", True)),
        Weight("diagonal_kernel", ("kernel",), having("kernel", "diagonal")),
        Weight("recurrent_diagonal_kernel", (u,), having(u, "diagonal")),
        Weight("peephole", ("peephole",), having("peephole", True)),
        Weight(r, (r,), having("gate_recurrence", True), "gates"),
        Weight("projection_kernel", ("kernel",), inner, "input"),
        Weight("projection_bias", ("bias",), biased),
    )
    return tuple(weight for weight in weights if weight.blocks)
