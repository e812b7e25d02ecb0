"""What an export tells: each layer's operator and why, and what the file holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any


@dataclass(frozen=True)
class LayerReport:
    """How one layer left.

    Attributes:
        name: where the layer stands in the model.
        operator: "LSTM", "GRU", "RNN", "Scan"; "Loop" for Keras's own loop, in which the converter
            may recognise an LSTM (`ExportReport.operators` counts what is in the file); or "not
            traced" where no call was seen.
        reason: why.
        weights_in_file: int, numbers stored for it, or None if not known.
        trainable_weights: int, numbers that training changes.
    """

    name: str
    operator: str
    reason: str
    weights_in_file: int | None
    trainable_weights: int


@dataclass(frozen=True)
class ExportReport:
    """What `export_onnx` wrote. Prints as a table.

    Attributes:
        path: of the file.
        opset: version of the ONNX operators.
        layers: a `LayerReport` for each gated layer.
        operators: number of nodes for each ONNX operator.
        inputs, outputs: names, in order.
        size: of the file, in bytes.
        largest_difference: from Keras, relative to max(1, |y|); None if not verified.
    """

    path: str
    opset: int
    layers: tuple[LayerReport, ...]
    operators: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    size: int
    largest_difference: float | None = None

    def __str__(self) -> str:
        head = ("layer", "operator", "in the file", "trainable", "why")
        rows = [
            (
                layer.name,
                layer.operator,
                "-" if layer.weights_in_file is None else f"{layer.weights_in_file:,}",
                f"{layer.trainable_weights:,}",
                layer.reason,
            )
            for layer in self.layers
        ]
        verified = "not verified"
        if self.largest_difference is not None:
            verified = f"differs from Keras by at most {self.largest_difference:.1e}"
        return "\n".join(
            [
                f"{self.path}: opset {self.opset}, {self.size:,} bytes, {verified}",
                f"inputs: {', '.join(self.inputs)}; outputs: {', '.join(self.outputs)}",
                f"nodes: {counted(self.operators)}",
                *(table(head, rows, right=(2, 3)) if rows else []),
            ]
        )


def as_json(thing: Any) -> Any:
    """Returns a report, or what stands in one, in the kinds that JSON has.

    A number that is not finite becomes None: JSON has none of these.
    """
    if is_dataclass(thing):
        names = [f.name for f in fields(thing)]
        names += [n for n, value in vars(type(thing)).items() if isinstance(value, property)]
        return {name: as_json(getattr(thing, name)) for name in names}
    if isinstance(thing, Mapping):
        return {str(key): as_json(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [as_json(value) for value in thing]
    if isinstance(thing, float):  # NumPy's too
        return float(thing) if math.isfinite(thing) else None
    return thing


def counted(operators: Mapping[str, int]) -> str:
    """Returns a histogram in one line."""
    return ", ".join(f"{count} {name}" for name, count in operators.items())


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list:
    """Returns the lines of a table; the columns `right` are flush right."""
    widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return [line(head), line(["-" * width for width in widths]), *map(line, rows)]
