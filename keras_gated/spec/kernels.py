"""The kinds of kernels: how one block sees x_t, or h_{t-1}.

A kind is a class. It owns all that depends on it: the name and shape of the weight, the product and
its gradients, the matrix that ONNX stores, LaTeX and FLOPs. A new kind is a new class here.

Users write a kind by name: "dense", "diagonal", "identity", or None for no kernel; or a `Blocks`
object. Arithmetic comes from outside, as `ops` (`keras.ops` or `numpy`): this file needs the
standard library only. A kind that mixes units also defines `transposed`, `product_back` and
`weight_gradient`, as `Dense` does.
"""

import math
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, ClassVar

from keras_gated.spec.config import Part


@dataclass(frozen=True)
class Kernel(Part):
    """A kind of kernel. The kernels of several blocks lie side by side in one weight.

    Attributes:
        name: by which users write it, or which describes it.
        prefix: of the names of its weights: "diagonal_" makes "recurrent_diagonal_kernel".
        mixes_units: whether a unit sees entries of other units. If not, the product is elementwise:
            the engine then finds its gradient as it does for all that is elementwise.
        initializer: the argument of a cell that initialises it; None for the one of dense kernels.
        is_stack: whether the weight is a stack of matrices, each with its own initial values.
    """

    name: ClassVar[str] = ""
    prefix: ClassVar[str] = ""
    mixes_units: ClassVar[bool] = False
    initializer: ClassVar[str | None] = None
    is_stack: ClassVar[bool] = False

    @property
    def groups(self) -> int:
        """Into how many equal groups the kernel cuts units and entries."""
        return 1

    @property
    def label(self) -> str:
        """What a text adds to the name of the weight; "" for a dense kernel."""
        return self.name if self.prefix else ""

    def weight_name(self, key: str) -> str | None:
        """Returns the name of the weight; `key` is "kernel" or "recurrent_kernel"."""
        return key.replace("kernel", f"{self.prefix}kernel")

    def shape(self, rows: int, units: int, blocks: int) -> tuple[int, ...]:
        """Returns the shape of the weight.

        Args:
            rows: features that the kernel sees.
            units: size of the memory.
            blocks: how many blocks have such a kernel.
        """
        raise NotImplementedError

    def product(self, ops: Any, x, w, blocks: int):
        """Returns the term of x (..., rows): (..., units) for each of `blocks`, side by side."""
        raise NotImplementedError

    def transposed(self, ops: Any, w):
        """Returns the form of w that `product_back` takes: made once, before the loop."""
        raise NotImplementedError

    def product_back(self, ops: Any, d, transposed, blocks: int):
        """Returns the gradient of x from that of the product, d (..., blocks · units)."""
        raise NotImplementedError

    def weight_gradient(self, ops: Any, x, d):
        """Returns the gradient of w from x (N, rows) and the gradient of the product d (N, ...)."""
        raise NotImplementedError

    def to_matrix(self, ops: Any, w, size: int):
        """Returns the kernel of one block as a matrix (size, units)."""
        raise NotImplementedError

    def from_matrix(self, ops: Any, matrix):
        """Returns the weight of one block whose matrix is `matrix`; the rest of it is not read."""
        raise NotImplementedError

    def latex(self, letter: str, block: str, x: str, factor: str) -> tuple[str, int]:
        """Returns the LaTeX of the term, and the elementwise operations that it takes.

        Args:
            letter: "W" or "U".
            block: letter of the block.
            x: what the kernel sees, as a factor of a matrix product,
            factor: and as a factor of an elementwise product.
        """
        raise NotImplementedError

    def flops(self, shape: tuple[int, ...]) -> int:
        """Returns the operations of the product, without those that `latex` counts."""
        return 0


class Dense(Kernel):
    """Every unit sees every entry: a matrix."""

    name, mixes_units = "dense", True

    def shape(self, rows: int, units: int, blocks: int) -> tuple[int, ...]:
        return rows, blocks * units

    def product(self, ops: Any, x, w, blocks: int):
        return ops.matmul(x, w)

    def transposed(self, ops: Any, w):
        return ops.transpose(w)

    def product_back(self, ops: Any, d, transposed, blocks: int):
        return ops.matmul(d, transposed)

    def weight_gradient(self, ops: Any, x, d):
        return ops.matmul(ops.transpose(x), d)

    def to_matrix(self, ops: Any, w, size: int):
        return w

    def from_matrix(self, ops: Any, matrix):
        return matrix

    def latex(self, letter: str, block: str, x: str, factor: str) -> tuple[str, int]:
        return f"{letter}_{block} {x}", 0

    def flops(self, shape: tuple[int, ...]) -> int:
        return 2 * math.prod(shape)


class Diagonal(Kernel):
    """Unit j sees entry j, times a weight: a vector."""

    name, prefix = "diagonal", "diagonal_"
    initializer = "diagonal_initializer"

    def shape(self, rows: int, units: int, blocks: int) -> tuple[int, ...]:
        return (blocks * units,)

    def product(self, ops: Any, x, w, blocks: int):
        return w * x

    def to_matrix(self, ops: Any, w, size: int):
        return ops.diag(w)

    def from_matrix(self, ops: Any, matrix):
        return ops.diag(matrix)

    def latex(self, letter: str, block: str, x: str, factor: str) -> tuple[str, int]:
        return rf"{letter.lower()}_{block} \odot {factor}", 1


class Identity(Kernel):
    """Unit j sees entry j unchanged: no weight."""

    name = "identity"

    def weight_name(self, key: str) -> None:
        return None

    def product(self, ops: Any, x, w, blocks: int):
        return x

    def to_matrix(self, ops: Any, w, size: int):
        return ops.eye(size)

    def latex(self, letter: str, block: str, x: str, factor: str) -> tuple[str, int]:
        return factor, 0


@dataclass(frozen=True)
class Blocks(Kernel):
    """A kernel of n blocks on the diagonal: the units of a group see the entries of that group.

    Units and entries are cut into n equal groups, in order. The weight is a stack of n matrices, of
    which each block is initialised by itself. It has 1/n of the weights of a dense kernel.

    Args:
        n: int > 0. The number of blocks. It must divide the number of units, and the number of
            entries: of input features for a `kernel`, of outputs for a `recurrent_kernel`.

    Raises:
        ValueError: if `n` is not an integer > 0.

    Example:
        An LSTM whose forget gate sees the outputs of its own group alone:

        >>> layer = kg.GatedLSTM(32, forget_gate=kg.Gate(recurrent_kernel=kg.Blocks(4)))
        >>> layer.build((None, None, 8))
        >>> tuple(layer.block_weights()["forget"]["recurrent_kernel"].shape)
        (4, 8, 8)
        >>> kg.count_parameters("lstm", 8, 32), kg.count_parameters(layer.cell.spec, 8, 32)
        (5248, 4480)
    """

    n: int = field(metadata={"format": 2})
    name, mixes_units, is_stack = "blocks", True, True

    def __post_init__(self):
        if not isinstance(self.n, Integral) or isinstance(self.n, bool) or self.n <= 0:
            raise ValueError(
                "Argument `n` must be an integer > 0: the number of blocks on the diagonal. "
                f"Received: n={self.n!r}. Write keras_gated.Blocks(4), for instance."
            )
        object.__setattr__(self, "n", int(self.n))

    @property
    def groups(self) -> int:
        return self.n

    @property
    def label(self) -> str:
        return f"{self.n} block{'s' * (self.n > 1)}"

    def weight_name(self, key: str) -> str:
        return key.replace("kernel", f"blocks{self.n}_kernel")

    def shape(self, rows: int, units: int, blocks: int) -> tuple[int, ...]:
        return self.n, rows // self.n, blocks * (units // self.n)

    # A group has i entries and o units; the weight of k gates is (n, i, k o).

    def product(self, ops: Any, x, w, blocks: int):
        groups = ops.transpose(ops.reshape(x, (-1, self.n, w.shape[1])), (1, 0, 2))
        y = ops.reshape(ops.matmul(groups, w), (self.n, -1, blocks, w.shape[2] // blocks))
        y = ops.transpose(y, (1, 2, 0, 3))
        return ops.reshape(y, (*ops.shape(x)[:-1], self.n * w.shape[2]))

    def transposed(self, ops: Any, w):
        return ops.transpose(w, (0, 2, 1))

    def product_back(self, ops: Any, d, transposed, blocks: int):
        y = ops.transpose(ops.matmul(self._in_groups(ops, d, blocks), transposed), (1, 0, 2))
        return ops.reshape(y, (*ops.shape(d)[:-1], self.n * transposed.shape[2]))

    def weight_gradient(self, ops: Any, x, d):
        groups = ops.reshape(x, (-1, self.n, x.shape[-1] // self.n))
        return ops.matmul(ops.transpose(groups, (1, 2, 0)), self._in_groups(ops, d, 1))

    def _in_groups(self, ops: Any, d, blocks: int):
        """What units of `blocks` gates have (N, k n o), by group (n, N, k o)."""
        o = d.shape[-1] // (self.n * blocks)
        d = ops.transpose(ops.reshape(d, (-1, blocks, self.n, o)), (2, 0, 1, 3))
        return ops.reshape(d, (self.n, -1, blocks * o))

    def to_matrix(self, ops: Any, w, size: int):
        if len(w.shape) == 2:  # it was multiplied by another matrix, and is one
            return w
        whole = w[:, :, None, :] * ops.eye(self.n)[:, None, :, None]
        return ops.reshape(whole, (self.n * w.shape[1], self.n * w.shape[2]))

    def from_matrix(self, ops: Any, matrix):
        i, o = (size // self.n for size in matrix.shape)
        parts = ops.reshape(matrix, (self.n, i, self.n, o))
        return ops.stack([parts[k, :, k] for k in range(self.n)])

    def latex(self, letter: str, block: str, x: str, factor: str) -> tuple[str, int]:
        return f"{letter}_{block}^{{({self.n})}} {x}", 0

    def flops(self, shape: tuple[int, ...]) -> int:
        return 2 * math.prod(shape)


DENSE = Dense()
NAMED: dict[str, Kernel] = {kind.name: kind for kind in (DENSE, Diagonal(), Identity())}


def as_kernel(value: Any) -> Kernel | None:
    """Returns the kind that a `kernel` argument stands for; None if there is no kernel."""
    return NAMED[value] if isinstance(value, str) else value


def check_kernel(value: Any, argument: str) -> None:
    """Raises a ValueError unless `value` is the name of a kind, a kind without a name, or None."""
    own = isinstance(value, Kernel) and value not in NAMED.values()
    if not (value is None or own or value in tuple(NAMED)):
        raise ValueError(
            f"Argument `{argument}` must be 'dense' (every unit sees every entry), 'diagonal' "
            "(each unit sees its own entry, times a weight), 'identity' (each unit sees its own "
            "entry unchanged), keras_gated.Blocks(n) (n dense blocks on the diagonal) or None (no "
            f"such term). Received: {argument}={value!r}."
        )


def sees_no_more(new: Any, old: Any) -> bool:
    """Returns whether a unit with kernel `new` sees nothing that one with kernel `old` does not.

    Args:
        new, old: as in a `kernel` argument.
    """
    smaller, larger = as_kernel(new), as_kernel(old)
    if smaller in (None, larger):
        return True
    if larger is None or not larger.mixes_units or smaller.name == "identity":
        return False
    return not smaller.mixes_units or (smaller.groups > 1 and smaller.groups % larger.groups == 0)
