"""A gate report: the ways to make a model smaller, what each costs, and what it saves."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GateRow:
    """One way to make one layer smaller.

    Attributes:
        layer: name of the layer.
        part: name of the gate ("forget"), or "units".
        becomes: what the gate becomes, in words.
        loss: of the smaller model, without training.
        increase: by how much the loss is higher than that of the full model.
        weights: number of weights that go.
        flops: floating-point operations of a time step that go.
        explained: the share of the variance of the gate's values that the smaller gate still has,
            at least 0; None for units.
        operator: the ONNX operator that computes the smaller cell ("LSTM", "GRU", "RNN", "Scan").
        changes: what `reduce_gates` takes.
        fitted: whether the weights that stay are fitted (the alternative, copied, is not better).
    """

    layer: str
    part: str
    becomes: str
    loss: float
    increase: float
    weights: int
    flops: int
    explained: float | None
    operator: str
    changes: dict[str, dict[str, Any]]
    fitted: bool = True

    @property
    def bytes(self) -> int:
        """The bytes that go from a float32 ONNX file."""
        return 4 * self.weights


@dataclass(frozen=True)
class GateReport:
    """What each smaller gate of a model would cost and save. `gate_report` returns it.

    Attributes:
        loss: of the full model on the data.
        parameters: number of weights of the full model.
        rows: the ways to make it smaller. The first one saves most weights for what it costs.
    """

    loss: float
    parameters: int
    rows: tuple[GateRow, ...]

    @property
    def best(self) -> GateRow:
        """The first row."""
        return self.rows[0]

    def __str__(self) -> str:
        head = f"loss {self.loss:.4f}, {self.parameters:,} weights"
        names = ("layer", "part", "becomes", "loss", "change", "weights", "variance", "ONNX")
        lines = [names, *map(self._cells, self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
        left = (0, 1, 2, 7)
        aligned = [
            "  ".join(
                cell.ljust(width) if i in left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([head, *aligned])

    def _cells(self, row: GateRow) -> tuple[str, ...]:
        explained = "" if row.explained is None else f"{row.explained:.0%}"
        change = f"{row.increase / abs(self.loss):+.2%}" if self.loss else f"{row.increase:+.4f}"
        numbers = (f"{row.loss:.4f}", change, f"-{row.weights:,}", explained)
        return (row.layer, row.part, row.becomes, *numbers, row.operator)

    def plot(self) -> Any:
        """Returns a figure of matplotlib: the weights that go against the change of the loss.

        Raises:
            ImportError: if matplotlib is missing.
        """
        from keras_gated.reduction.figures import plot_report

        return plot_report(self)
