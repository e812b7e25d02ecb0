"""Does an ONNX file do what the Keras model does? Asked of onnxruntime, at several shapes."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_gated.export.errors import ExportError, require
from keras_gated.export.finishing import histogram
from keras_gated.export.interface import Interface, interface_of, output_names, random_inputs
from keras_gated.export.layers_within import in_float32
from keras_gated.export.report import counted, table

# (batch, time): never an empty one, which would end the process of an unguarded file.
SHAPES = ((2, 9), (3, 1), (1, 14))


@dataclass(frozen=True)
class OutputParity:
    """One output at one shape: the largest absolute difference, and relative to max(1, |y|)."""

    output: str
    shape: str
    absolute: float
    relative: float


@dataclass(frozen=True)
class ParityReport:
    """What `check_onnx` found. Prints as a table.

    Attributes:
        path: of the file.
        passed: whether every output agreed at every shape.
        tolerance: on the difference relative to max(1, |y|).
        outputs: an `OutputParity` for each output and shape.
        problems: what went wrong otherwise, and outputs that differ.
        notes: shapes that Keras itself refuses, which were left out.
        operators: number of nodes for each ONNX operator.
    """

    path: str
    passed: bool
    tolerance: float
    outputs: tuple[OutputParity, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    operators: Mapping[str, int]

    @property
    def largest_difference(self) -> float:
        """The largest difference relative to max(1, |y|)."""
        return max((found.relative for found in self.outputs), default=float("nan"))

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        rows = [
            (found.output, found.shape, f"{found.absolute:.1e}", f"{found.relative:.1e}")
            for found in self.outputs
        ]
        head = ("output", "inputs", "absolute", "relative")
        return "\n".join(
            [
                f"{self.path}: {verdict} at tolerance {self.tolerance:.1e}",
                f"nodes: {counted(self.operators)}",
                *(table(head, rows, right=(2, 3)) if rows else []),
                *(f"note: {note}" for note in self.notes),
                *(f"problem: {problem}" for problem in self.problems),
            ]
        )


def check_onnx(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    input_signature=None,
    tolerance: float = 1e-5,
    seed: int = 0,
    raise_on_failure: bool = False,
) -> ParityReport:
    """Runs an ONNX file in onnxruntime beside the Keras model and compares.

    The file is checked in full against the ONNX standard. Both get random inputs at several batch
    sizes and time lengths, one time step included. Layers of mixed precision compute in float32
    meanwhile, as in the file.

    Args:
        model: the Keras model that the file was exported from.
        path: of the file.
        input_signature: as in `export_onnx`, for a model that does not know its inputs.
        tolerance: float > 0, on |difference| / max(1, |y|).
        seed: int, of the random inputs.
        raise_on_failure: bool. Whether a file that differs raises.

    Returns:
        A `ParityReport`; its `passed` tells, its str() explains.

    Raises:
        ExportError: with `raise_on_failure`, if the file differs: names the output and the shape.
        ImportError: if onnx or onnxruntime is not installed.

    Example:
        >>> print(kg.check_onnx(model, "model.onnx"))
    """
    onnx, _ = require("onnx", "onnxruntime")
    interface = interface_of(model, input_signature)
    proto = onnx.load(os.fspath(path))
    problems = _invalid(onnx, os.fspath(path))
    found: list[OutputParity] = []
    notes: list[str] = []
    if not problems:
        with in_float32(model):
            for result in _compared(model, interface, os.fspath(path), seed):
                found += [r for r in [result] if isinstance(r, OutputParity)]
                notes += [r.text for r in [result] if isinstance(r, _Left)]
                problems += [r for r in [result] if isinstance(r, str)]
    # Written so that a NaN fails.
    problems += [
        f"Output {f.output!r} differs at {f.shape} by {f.absolute:.2e}, relative {f.relative:.2e}."
        for f in found
        if not f.relative <= tolerance
    ]
    if not found and not problems:
        problems.append("Keras refused every shape, so nothing was compared.")
    report = ParityReport(
        path=os.fspath(path),
        passed=not problems,
        tolerance=tolerance,
        outputs=tuple(found),
        problems=tuple(problems),
        notes=tuple(notes),
        operators=histogram(proto.graph),
    )
    if raise_on_failure and problems:
        raise ExportError(f"The ONNX file does not do what the model does.\n{report}")
    return report


def session_of(path: str) -> Any:
    """Returns an onnxruntime session on one thread of the CPU, whose results repeat."""
    (onnxruntime,) = require("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class _Left:
    """A shape that was left out, and why."""

    text: str


def _invalid(onnx: Any, path: str) -> list[str]:
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception as error:  # noqa: BLE001 - whatever the checker dislikes is the finding
        return [f"The file is not valid ONNX: {error}"]
    return []


def _compared(model, interface: Interface, path: str, seed: int) -> Iterator:
    """Yields an OutputParity for each output and shape, a _Left or, for a problem, a text."""
    rng = np.random.default_rng(seed)
    try:
        session = session_of(path)
    except Exception as error:  # noqa: BLE001 - as above
        yield f"onnxruntime cannot load the file: {error}"
        return
    names = [port.name for port in session.get_inputs()]
    expected = [port.name for port in interface.ports]
    if names != expected:
        yield f"The file's inputs are {names}. The model's are {expected}."
        return
    interface = _as_fixed(interface, session)
    done: set[str] = set()
    for batch, time in SHAPES:
        arrays = random_inputs(model, interface, batch, time, rng)
        shape = ", ".join(f"{n} {a.shape}" for n, a in zip(names, arrays, strict=True))
        if shape not in done:
            done.add(shape)
            yield from _at(model, interface, session, arrays, shape)


def _as_fixed(interface: Interface, session: Any) -> Interface:
    """The interface with the sizes that the file fixes."""
    ports = []
    for port, given in zip(interface.ports, session.get_inputs(), strict=True):
        pairs = zip(port.shape, given.shape, strict=True)
        shape = tuple(theirs if isinstance(theirs, int) else ours for ours, theirs in pairs)
        ports.append(replace(port, shape=shape))
    return replace(interface, ports=tuple(ports))


def _at(model, interface: Interface, session: Any, arrays: list, shape: str) -> Iterator:
    """Compares at one shape."""
    try:
        tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
        outputs = model(interface.pack(tensors), training=False)
    except Exception as error:  # noqa: BLE001 - the model may need a longer sequence, say
        first = (str(error).strip() or repr(error)).splitlines()[0]
        yield _Left(f"Keras refuses {shape}: {first}")
        return
    names = output_names(model, outputs, interface)
    try:
        feed = dict(zip([p.name for p in interface.ports], arrays, strict=True))
        found = dict(
            zip([p.name for p in session.get_outputs()], session.run(None, feed), strict=True)
        )
    except Exception as error:  # noqa: BLE001 - the finding
        yield f"onnxruntime fails at {shape}: {error}"
        return
    if list(found) != names:
        yield f"The file's outputs are {list(found)}. The model's are {names}."
        return
    for name, output in zip(names, tree.flatten(outputs), strict=True):
        yield _difference(name, shape, keras.ops.convert_to_numpy(output), found[name])


def _difference(name: str, shape: str, y: np.ndarray, found: np.ndarray) -> OutputParity | str:
    if y.shape != found.shape:
        return f"Output {name!r} at {shape} has shape {found.shape}. Keras gives {y.shape}."
    y, found = y.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        same = (y == found) | (np.isnan(y) & np.isnan(found))
        difference = np.where(same, 0.0, np.abs(y - found))
        relative = np.where(same, 0.0, difference / np.maximum(1.0, np.abs(y)))
    return OutputParity(name, shape, difference.max(initial=0.0), relative.max(initial=0.0))
