"""The report of an export, and helpers that print reports as tables or JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any


@dataclass(frozen=True)
class LayerReport:
    """How one recurrent layer, or one cell of a stack, is exported.

    Attributes:
        name: the layer's place in the model, e.g. "encoder/lstm".
        operator: "LSTM", "GRU", "RNN" or "Scan"; "Loop" for Keras's own loop, in which tf2onnx may
            recognise an LSTM (`ExportReport.operators` counts what is in the file); "not traced" if
            the model never called the layer.
        reason: why the layer is exported as this operator.
        weights_in_file: int, how many numbers the file stores for it, or None if not known.
        trainable_weights: int, how many numbers training changes.
    """

    name: str
    operator: str
    reason: str
    weights_in_file: int | None
    trainable_weights: int


@dataclass(frozen=True)
class ExportReport:
    """What `export_onnx` or `export_streaming` wrote. `str()` is a table.

    Attributes:
        path: where the file is.
        opset: version of the ONNX operators.
        layers: a `LayerReport` for each recurrent layer.
        operators: how many nodes the file has of each ONNX operator.
        inputs, outputs: names, in the file's order.
        size: of the file, in bytes.
        largest_difference: the largest difference from Keras, relative to max(1, |y|); None if the
            file was not verified.
        notes: what else the comparison with Keras found, e.g. what the file does with a NaN.
        runtimes: {runtime that the file was made for: its version, if the file was run in it, or
            why not}.
    """

    path: str
    opset: int
    layers: tuple[LayerReport, ...]
    operators: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    size: int
    largest_difference: float | None = None
    notes: tuple[str, ...] = ()
    runtimes: Mapping[str, str] = field(default_factory=dict)

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
                f"nodes: {format_counts(self.operators)}",
                *format_runtimes(self.runtimes),
                *(format_table(head, rows, right=(2, 3)) if rows else []),
                *(f"note: {note}" for note in self.notes),
            ]
        )


def as_json(value: Any) -> Any:
    """Converts a report, or a part of one, to dictionaries, lists, strings and numbers.

    Properties are included. A number that is not finite becomes None, for JSON has no such numbers.
    """
    if is_dataclass(value):
        names = [f.name for f in fields(value)]
        names += [n for n, v in vars(type(value)).items() if isinstance(v, property)]
        return {name: as_json(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float):  # np.float64 is one too
        return float(value) if math.isfinite(value) else None
    return value


def format_counts(operators: Mapping[str, int]) -> str:
    """Formats the number of nodes of each operator as one line, e.g. "2 LSTM, 1 MatMul"."""
    return ", ".join(f"{count} {name}" for name, count in operators.items())


def format_runtimes(runtimes: Mapping[str, str]) -> list[str]:
    """Returns a line that says in which runtimes a file was run; none if that is the usual one."""
    texts = [f"{name} {text}" for name, text in runtimes.items()]
    return [f"run in: {', '.join(texts)}"] if len(texts) > 1 else []


def format_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> list[str]:
    """Returns the lines of a table.

    Args:
        head: title of each column.
        rows: the cells, one sequence per row.
        right: indices of the columns that are aligned to the right.
    """
    columns = []
    for k, (title, *cells) in enumerate(zip(head, *rows, strict=True)):
        width = max(map(len, (title, *cells)))
        align = str.rjust if k in right else str.ljust
        columns.append([align(cell, width) for cell in (title, "-" * width, *cells)])
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
