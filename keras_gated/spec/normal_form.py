"""The normal form of a specification, which all code after this file reads.

`resolve` follows ties (with `CellSpec.source`), folds constants, fills in defaults and puts blocks
and weights in order. No file after this one follows a tie or decides the order of blocks.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import lru_cache

from keras_gated.spec.activations import Floored
from keras_gated.spec.cell_spec import GATES, CellSpec, has_bias
from keras_gated.spec.gate_values import GateValue
from keras_gated.spec.kernels import DENSE, Kernel, as_kernel
from keras_gated.spec.parts import Candidate, Gate, Projection

BLOCKS = ("input", "forget", "reset", "candidate", "output")
RECURRENT_GATES = ("input", "forget", "output")  # with gate recurrence they are states too


@dataclass(frozen=True)
class Block:
    """The terms and weights of one gate or of the candidate, with all defaults filled in.

    The fields have the meanings that they have in `Gate` and `Candidate`; kernels are objects, and
    `peephole` is "previous" for one at c_{t-1}, "current" for one at c_t, and "" for none.
    """

    name: str
    kernel: Kernel | None
    recurrent_kernel: Kernel | None
    use_bias: bool
    use_recurrent_bias: bool
    peephole: str
    gate_recurrence: bool
    activation: Hashable
    bias_initializer: Hashable
    input_activation: Hashable
    recurrent_input_activation: Hashable
    decay: float | None
    shares: bool

    @property
    def input_only(self) -> bool:
        """Whether the block sees only `x_t`: no state and no other gate.

        One that shares the candidate's products sees what the candidate sees.
        """
        return not (self.recurrent_kernel or self.peephole or self.gate_recurrence)

    @property
    def sees_only_new_memory(self) -> bool:
        """Whether the block sees c_t, and no state of the time step before."""
        before = self.recurrent_kernel or self.gate_recurrence
        return self.peephole == "current" and not before


@dataclass(frozen=True)
class Weight:
    """One weight of a cell: the parts of several blocks, side by side on its last axis.

    Attributes:
        name: attribute of the cell, as in Keras ("kernel", "recurrent_kernel", "bias", ...).
        keys: names of the parts in `GatedCell.block_weights`. With two keys (`bias` and
            `recurrent_bias`) the weight has a first axis of size 2.
        blocks: names of the blocks, in order.
        sees: what it multiplies or is added to: "input"; or "state" (h), "gates" (the three gates
            of the step before), or None for what a step itself adds.
        kernel: the kind of kernel; None if it is none, but a bias, a gain or a peephole.
        one_number: whether it has one number for all units of a block.
    """

    name: str
    keys: tuple[str, ...]
    blocks: tuple[str, ...]
    sees: str | None = None
    kernel: Kernel | None = None
    one_number: bool = False

    @property
    def is_matrix(self) -> bool:
        """Whether products are taken with it, which mixed precision does in 16 bits."""
        return self.kernel is not None and self.kernel.mixes_units

    def shape(self, input_dim: int, units: int, output_dim: int | None = None) -> tuple[int, ...]:
        """Returns the shape of the weight.

        Args:
            input_dim: features that the cell sees at one time step, all inputs of its window.
            units: size of the memory.
            output_dim: size of h; None if it is `units`.
        """
        count = len(self.blocks)
        gates = len(RECURRENT_GATES) * units
        rows = {"input": input_dim, "state": output_dim or units, "gates": gates}
        if self.kernel is not None:
            return self.kernel.shape(rows[self.sees or ""], units, count)
        size = count if self.one_number else count * units
        return (len(self.keys), size) if len(self.keys) > 1 else (size,)


@dataclass(frozen=True)
class NormalForm:
    """A specification in normal form. `resolve` makes it.

    Attributes:
        memory: "cell" or "hidden".
        blocks: the gates that have weights and the candidate, by name, in the order of `BLOCKS`.
        gates: the value of each of the four gates, by name.
        reset: where the reset gate acts: "none", "before" or "after" the recurrent product, or on
            "all" of the candidate's pre-activation.
        output_activation, memory_activation, carry_activation: φ, μ and κ: names, Configs or
            functions; "linear" is the identity.
        input_skip: whether the output shows the input too.
        input_scale: "root" if what is written is multiplied by √(1 - f²), else None.
        normalizer: whether the output reads c divided by a normaliser n.
        gate_recurrence: whether gates see the gates of the previous time step.
        projection: the `Projection` of the input, or None.
        window: how many inputs the cell sees side by side.
        weights: all weights of the cell, in the order of `get_weights()`.
    """

    memory: str
    blocks: dict[str, Block]
    gates: dict[str, GateValue]
    reset: str
    output_activation: Hashable
    memory_activation: Hashable
    carry_activation: Hashable
    input_skip: bool
    input_scale: str | None
    normalizer: bool
    gate_recurrence: bool
    projection: Projection | None
    window: int
    weights: tuple[Weight, ...]

    def __hash__(self) -> int:
        return hash((self.memory, self.weights))  # the dictionaries have no hash

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the blocks whose products are the candidate's."""
        return tuple(name for name, block in self.blocks.items() if block.shares)

    @property
    def candidate(self) -> Block:
        """The block of the candidate."""
        return self.blocks["candidate"]

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states: h, the memories, then the gates if there is gate recurrence."""
        names = ("h", *self.memories) if self.memory == "cell" else self.memories
        return names + (RECURRENT_GATES if self.gate_recurrence else ())

    @property
    def memories(self) -> tuple[str, ...]:
        """Names of the states that carry content: h or c; c, normaliser n and stabiliser m."""
        if self.normalizer:
            return ("c", "n", "m")
        return ("c",) if self.memory == "cell" else ("h",)

    @property
    def memory_index(self) -> int:
        """The position of the memory among the states."""
        return self.states.index(self.memories[0])

    @property
    def in_log(self) -> frozenset[str]:
        """Names of the blocks that are computed as the logarithm of the gate."""
        gates = ("input", "forget") if self.normalizer else ("forget",) if self.input_scale else ()
        shared = tuple(name for name, value in self.gates.items() if value.other)
        of_gates = {self.gates[name].block for name in gates + shared}
        return frozenset(k for k, block in self.blocks.items() if block.decay or k in of_gates)

    @property
    def square(self) -> tuple[str, ...]:
        """Names of what needs as many inputs as there are units, blocks or "skip"; often empty."""
        if self.projection:
            return ()
        kernels = {k: b.kernel for k, b in self.blocks.items()}
        alone = tuple(k for k, kernel in kernels.items() if kernel and not kernel.mixes_units)
        return (*alone, "skip") if self.input_skip else alone

    def groups(self, *keys: str) -> int:
        """Returns the least common multiple of the groups of the kernels called `keys`."""
        kernels = (getattr(block, key) for block in self.blocks.values() for key in keys)
        return math.lcm(*(kernel.groups for kernel in kernels if kernel))

    @property
    def unit_groups(self) -> int:
        """A number that must divide the number of units; 1 if there is no kernel of blocks."""
        return self.groups("kernel", "recurrent_kernel")

    @property
    def input_groups(self) -> int:
        """A number that must divide the number of inputs side by side in a window."""
        return 1 if self.projection else self.groups("kernel")

    @property
    def linear_memory(self) -> bool:
        """Whether `c_t` is linear in `c_{t-1}` with coefficients that depend only on the inputs.

        Such a memory can be computed in parallel in time.
        """
        before = [block for name, block in self.blocks.items() if name != "output"]
        output = self.blocks.get("output")
        return (
            self.memory_activation == self.carry_activation == "linear"
            and not self.normalizer
            and all(block.input_only for block in before)
            and (output is None or output.input_only or output.sees_only_new_memory)
        )

    @property
    def unit_by_unit(self) -> bool:
        """Whether each unit sees only its own states, and not linearly.

        All recurrent kernels are diagonal or identity. A step has then a slope of one number for
        each unit, or 2 by 2 with a memory cell.
        """
        kernels = [block.recurrent_kernel for block in self.blocks.values()]
        mixes = any(kernel and kernel.mixes_units for kernel in kernels)
        return not (mixes or self.gate_recurrence or self.normalizer or self.linear_memory)

    @property
    def _why_square(self) -> str:
        kernels = [name for name in self.square if name != "skip"]
        if kernels:
            return f"the kernel of its {' and '.join(kernels)} is diagonal or identity"
        return "its output shows the input (input_skip)"

    def check_sizes(self, input_dim: int, units: int) -> None:
        """Raises a ValueError if this cell cannot have `input_dim` inputs and `units` units."""
        self._check_square(input_dim, units)
        needed = (
            ("units", units, self.unit_groups),
            ("input features", self.window * input_dim, self.input_groups),
        )
        for name, size, groups in needed:
            if size % groups:
                raise ValueError(
                    f"The number of {name} must be a multiple of {groups} for this cell, because "
                    "the kernels of its specification have so many blocks on the diagonal. "
                    f"Received: {name}={size}. Take a multiple of {groups}, or another number of "
                    "blocks: keras_gated.Blocks(n)."
                )

    def _check_square(self, input_dim: int, units: int) -> None:
        if self.square and self.window * input_dim != units:
            raise ValueError(
                f"Argument `units` must equal the number of input features for this cell, because "
                f"{self._why_square}: unit j sees input j. "
                f"Received: units={units}, input features={input_dim} in a window of "
                f"{self.window} time steps. Project the input first: keras.layers.Dense before "
                "the layer, or input_projection=keras_gated.Projection() in the specification."
            )

    def shapes(
        self, input_dim: int, units: int, output_dim: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each weight by name, in order.

        Args:
            input_dim: features of one time step.
            units: size of the memory.
            output_dim: size of h; None if it is `units`.

        Raises:
            ValueError: if a kernel does not fit these numbers.
        """
        self.check_sizes(input_dim, units)
        window_dim = self.window * input_dim
        sizes = {w.name: window_dim for w in self.weights}
        if self.projection:
            sizes = {w.name: units for w in self.weights} | {"projection_kernel": window_dim}
        return {w.name: w.shape(sizes[w.name], units, output_dim) for w in self.weights}


@lru_cache(maxsize=1024)
def resolve(spec: CellSpec) -> NormalForm:
    """Returns the normal form of `spec`."""
    gates = {name: _gate_value(spec, name) for name in GATES}
    reset = _reset_position(spec, gates["reset"])
    parts = {name: spec.gate(name) for name in GATES} | {"candidate": spec.candidate}
    if gates["reset"].constant == 0.0:  # the recurrent product is multiplied by 0: leave it out
        parts["candidate"] = replace(spec.candidate, recurrent_kernel=None)
    present = {name: parts[name] for name in BLOCKS if isinstance(parts[name], Gate | Candidate)}
    second_bias = reset == "after" and _has_second_bias(spec, gates["reset"])
    blocks = {name: _block(spec, name, part, second_bias) for name, part in present.items()}
    trained = tuple(name for name, value in gates.items() if value.trained)
    output = spec.output_activation or spec.candidate.activation
    return NormalForm(
        memory=spec.memory,
        blocks=blocks,
        gates=gates,
        reset=reset,
        output_activation="linear" if spec.memory == "hidden" else output,
        memory_activation=spec.memory_activation,
        carry_activation=spec.carry_activation,
        input_skip=spec.input_skip,
        input_scale=spec.input_scale,
        normalizer=spec.normalizer,
        gate_recurrence=spec.gate_recurrence,
        projection=spec.input_projection,
        window=spec.input_window,
        weights=_weights(blocks, spec.input_projection, trained),
    )


def _gate_value(spec: CellSpec, name: str) -> GateValue:
    source = spec.source(name)
    if source.constant is not None:
        return GateValue(constant=source.constant)
    divided_by = {"input": "forget", "forget": "input"} if spec.normalize_gates else {}
    other = divided_by.get(source.name, "")
    trained = name if getattr(spec.gate(name), "trained", False) else ""
    return GateValue(None, source.name, source.offset, source.complement, other, trained)


def _reset_position(spec: CellSpec, value: GateValue) -> str:
    if value.constant in (0.0, 1.0):
        return "none"
    if spec.candidate.reset_all:
        return "all"
    return "after" if spec.candidate.reset_after else "before"


def _has_second_bias(spec: CellSpec, reset: GateValue) -> bool:
    """Whether the reset gate multiplies a bias too. With a constant reset it would be redundant."""
    candidate = spec.candidate
    return reset.constant is None and candidate.use_recurrent_bias and has_bias(spec, candidate)


def _block(spec: CellSpec, name: str, part: Gate | Candidate, second_bias: bool) -> Block:
    activation = spec.recurrent_activation if part.activation is None else part.activation
    if floor := getattr(part, "floor", None):
        activation = Floored(activation, floor)
    return Block(
        name=name,
        kernel=as_kernel(part.kernel),
        recurrent_kernel=as_kernel(part.recurrent_kernel),
        use_bias=has_bias(spec, part),
        use_recurrent_bias=has_bias(spec, part) and second_bias,
        peephole=_peephole(name, getattr(part, "peephole", False)),
        gate_recurrence=spec.gate_recurrence and name in RECURRENT_GATES,
        activation=activation,
        bias_initializer=getattr(part, "bias_initializer", None),
        input_activation=part.input_activation,
        recurrent_input_activation=getattr(part, "recurrent_input_activation", None),
        decay=getattr(part, "decay", None),
        shares=getattr(part, "shares", None) is not None,
    )


def _peephole(name: str, value: bool | str) -> str:
    if not value:
        return ""
    return "current" if name == "output" and value != "previous" else "previous"


def _weights(
    blocks: dict[str, Block], projection: Projection | None, trained: tuple[str, ...]
) -> tuple[Weight, ...]:
    """Returns the weights that have at least one block: those that Keras has first, then others.

    `trained` are the gates whose tie has a trained scale and shift.
    """

    def blocks_with(field: str) -> tuple[str, ...]:
        return tuple(name for name, block in blocks.items() if getattr(block, field))

    biases = ("bias", "recurrent_bias") if blocks_with("use_recurrent_bias") else ("bias",)
    projected = ("projection",) if projection else ()
    projected_bias = projected if projection and projection.use_bias else ()
    gates = "gate_recurrent_kernel"
    kernels = [*_kernel_weights(blocks, "kernel", "input")]
    kernels += _kernel_weights(blocks, "recurrent_kernel", "state")
    weights = (
        *(weight for weight in kernels if weight.kernel == DENSE),
        Weight("bias", biases, blocks_with("use_bias")),
        *(weight for weight in kernels if weight.kernel != DENSE),
        Weight("peephole", ("peephole",), blocks_with("peephole")),
        Weight("decay", ("decay",), blocks_with("decay")),
        Weight("tie", ("scale", "shift"), trained, one_number=True),
        Weight(gates, (gates,), blocks_with("gate_recurrence"), "gates", DENSE),
        Weight("projection_kernel", ("kernel",), projected, "input", DENSE),
        Weight("projection_bias", ("bias",), projected_bias, "input"),
    )
    return tuple(weight for weight in weights if weight.blocks)


def _kernel_weights(blocks: dict[str, Block], key: str, sees: str) -> list[Weight]:
    """Returns a weight for each kind of kernel that some blocks have."""
    of_kind: dict[Kernel, tuple[str, ...]] = {}
    for name, block in blocks.items():
        if (kernel := getattr(block, key)) is not None:
            of_kind[kernel] = (*of_kind.get(kernel, ()), name)
    return [
        Weight(name, (key,), names, sees, kernel)
        for kernel, names in of_kind.items()
        if (name := kernel.weight_name(key))
    ]
