"""The kinds of kernels: how one block sees x_t, or h_{t-1}.

A kind is a class. It owns all that depends on it: the name and shape of the weight, the product and
its gradients, the matrix that ONNX stores, LaTeX and FLOPs. A new kind is a new class here.

Users write a kind by name: "dense", "diagonal", "identity", or None for no kernel. Arithmetic comes
from outside, as `ops` (`keras.ops` or `numpy`): this file needs the standard library only. A kind
that mixes units also defines `transposed`, `product_back` and `weight_gradient`, as `Dense` does.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from keras_gated.spec.config import Part


@dataclass(frozen=True)
class Kernel(Part):
    """A kind of kernel. The kernels of several blocks lie side by side in one weight.

    Attributes:
        name: by which users write it.
        prefix: of the names of its weights: "diagonal_" makes "recurrent_diagonal_kernel".
        mixes_units: whether a unit sees entries of other units. If not, the product is elementwise:
            the engine then finds its gradient as it does for all that is elementwise.
        initializer: the argument of a cell that initialises it; None for the one of dense kernels.
    """

    name: ClassVar[str] = ""
    prefix: ClassVar[str] = ""
    mixes_units: ClassVar[bool] = False
    initializer: ClassVar[str | None] = None

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

    def product(self, ops: Any, x, w):
        """Returns the term of x (..., rows): (..., units) for each block, side by side."""
        raise NotImplementedError

    def transposed(self, ops: Any, w):
        """Returns the form of w that `product_back` takes: made once, before the loop."""
        raise NotImplementedError

    def product_back(self, ops: Any, d, transposed):
        """Returns the gradient of x from that of the product, d (..., blocks · units)."""
        raise NotImplementedError

    def weight_gradient(self, ops: Any, x, d):
        """Returns the gradient of w from x (N, rows) and the gradient of the product d (N, ...)."""
        raise NotImplementedError

    def to_matrix(self, ops: Any, w, size: int):
        """Returns the kernel of one block as a matrix (size, units)."""
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

    def product(self, ops: Any, x, w):
        return ops.matmul(x, w)

    def transposed(self, ops: Any, w):
        return ops.transpose(w)

    def product_back(self, ops: Any, d, transposed):
        return ops.matmul(d, transposed)

    def weight_gradient(self, ops: Any, x, d):
        return ops.matmul(ops.transpose(x), d)

    def to_matrix(self, ops: Any, w, size: int):
        return w

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

    def product(self, ops: Any, x, w):
        return w * x

    def to_matrix(self, ops: Any, w, size: int):
        return ops.diag(w)

    def latex(self, letter: str, block: str, x: str, factor: str) -> tuple[str, int]:
        return rf"{letter.lower()}_{block} \odot {factor}", 1


class Identity(Kernel):
    """Unit j sees entry j unchanged: no weight."""

    name = "identity"

    def weight_name(self, key: str) -> None:
        return None

    def product(self, ops: Any, x, w):
        return x

    def to_matrix(self, ops: Any, w, size: int):
        return ops.eye(size)

    def latex(self, letter: str, block: str, x: str, factor: str) -> tuple[str, int]:
        return factor, 0


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
            "(each unit sees its own entry, times a weight), 'identity' (each unit sees its "
            f"own entry unchanged) or None (no such term). Received: {argument}={value!r}."
        )
