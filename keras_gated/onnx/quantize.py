"""quantize_onnx: a model as an ONNX file that multiplies in int8, and what that costs."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_gated.layers import GatedRNN
from keras_gated.onnx import int8
from keras_gated.onnx.atomic_file import check_path, replace_when_complete
from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.graph.cleanup import count_operators
from keras_gated.onnx.int8 import NodeReport
from keras_gated.onnx.int8_comparison import OutputDifference, Pair, differences
from keras_gated.onnx.report import counted, table
from keras_gated.onnx.tracing.keras_layers import gated_cell
from keras_gated.onnx.tracing.model_layers import places_within
from keras_gated.onnx.verify.check import session_of
from keras_gated.onnx.verify.inputs import ports_of, random_feeds, sampled_feeds
from keras_gated.spec.normal_form import NormalForm
from keras_gated.spec.onnx_operator import lower

OLDEST_OPSET = 11  # DynamicQuantizeLinear


@dataclass(frozen=True)
class QuantizationReport:
    """What `quantize_onnx` wrote. Prints as a table.

    Attributes:
        path: of the file.
        nodes: a `NodeReport` for each recurrent node, each product and each node that holds a
            matrix: whether it computes in int8, and by what or why not.
        outputs: an `OutputDifference` from the float32 file for each output.
        compared_on: what the differences were found on.
        size_before, size_after: of the float32 file and of this one, in bytes.
        operators: number of nodes for each operator.
        notes: what else is to be known, e.g. shapes that the float32 file itself refuses.
    """

    path: str
    nodes: tuple[NodeReport, ...]
    outputs: tuple[OutputDifference, ...]
    compared_on: str
    size_before: int
    size_after: int
    operators: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def left_in_float32(self) -> tuple[NodeReport, ...]:
        """The nodes that do not compute in int8."""
        return tuple(node for node in self.nodes if not node.quantized)

    def __str__(self) -> str:
        share = self.size_after / self.size_before
        nodes = [
            (n.name, n.operator, n.within or "-", "int8" if n.quantized else "float32", n.reason)
            for n in self.nodes
        ]
        outputs = [
            (o.output, f"{o.largest:.1e}", f"{o.mean:.1e}", f"{o.magnitude:.1e}")
            for o in self.outputs
        ]
        return "\n".join(
            [
                f"{self.path}: {self.size_after:,} bytes, {share:.2f} of {self.size_before:,}; "
                f"{len(self.nodes) - len(self.left_in_float32)} of {len(self.nodes)} nodes in int8",
                f"nodes: {counted(self.operators)}",
                *table(("node", "operator", "within", "computes in", "by or why not"), nodes),
                f"difference from the float32 file on {self.compared_on}:",
                *table(("output", "largest", "mean", "max |y|"), outputs, right=(1, 2, 3)),
                *(f"note: {note}" for note in self.notes),
            ]
        )


def quantize_onnx(
    model: keras.Model | str | os.PathLike,
    path: str | os.PathLike,
    *,
    samples: Any = None,
    input_signature: Any = None,
    per_channel: bool = True,
    reduce_range: bool = True,
    opset: int = 17,
    expected_batch: int = 1,
    verify: bool = True,
    seed: int = 0,
    modules: Sequence[str] = (),
) -> QuantizationReport:
    """Writes an ONNX file whose LSTMs and products with weights compute in int8.

    Dynamic quantisation: weights are stored as int8 with scales, the input of each product is
    brought to 8 bits between its least and greatest value at each run, over the whole batch: what
    comes out for a row depends a little on the rows beside it. It needs no calibration. An LSTM
    becomes onnxruntime's DynamicQuantizeLSTM; a product, in a Scan too, the standard MatMulInteger.

    onnxruntime has no int8 GRU or RNN. From a Keras model such layers leave as a Scan, whose
    products are quantised; in a file they stay in float32, and the report says so, as of anything
    else that stays.

    Such a Scan is smaller, and at large batches faster, than the float32 node; at batch 1 it is
    many times slower. To keep the node, export with lowering="native" and quantise the file.

    Args:
        model: a Keras model, or the path of an ONNX file.
        path: of the file to write.
        samples: what to measure the difference on: inputs as the model takes them (an array, list
            or dictionary, (B, T, F) each), or a list of such. None takes random numbers, which
            tell little about the accuracy on a task.
        input_signature: as in `export_onnx`, for a Keras model that does not know its inputs.
        per_channel: bool. A scale for each unit of a weight, instead of one for the whole.
        reduce_range: bool. Weights in 7 bits. On x86 processors without VNNI instructions products
            of 8 bits overflow, without a word: an output was off by 0.4 of its greatest value.
            False keeps the eighth bit, for other processors alone.
        opset, expected_batch, modules: as in `export_onnx`, for a Keras model.
        verify: bool. Whether the float32 file of a Keras model is first compared with it, as in
            `export_onnx`. The int8 file is compared with the float32 file in any case.
        seed: int, of random inputs.

    Returns:
        A `QuantizationReport`; str() is a table.

    Raises:
        ExportError: if the model cannot leave as ONNX, or the int8 file does not run.
        ValueError: if an argument is not as above.
        ImportError: if the packages of the extra "onnx" are not installed.

    Example:
        >>> print(kg.quantize_onnx(model, "model.int8.onnx", samples=x_validation[:64]))
    """
    _check_arguments(model, path)
    known = model if isinstance(model, keras.Model) else None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float32.onnx" if known else Path(os.fspath(model))
        if known:
            how: dict = {"opset": opset, "expected_batch": expected_batch, "modules": modules}
            how |= {"input_signature": input_signature, "verify": verify}
            export_onnx(known, source, lowering=int8_lowering(known), **how)
        return _quantized(known, source, path, samples, seed, per_channel, reduce_range)


def _quantized(
    known, source: Path, path, samples, seed: int, per_channel: bool, reduce_range: bool
) -> QuantizationReport:
    """Writes the int8 form of a float32 file beside it; `known` is its model, if there is one."""
    (onnx,) = require("onnx")
    proto = onnx.load(source)
    _check_opset(proto)
    size, ports = proto.ByteSize(), ports_of(proto.graph)
    feeds = None if samples is None else sampled_feeds(samples, ports)
    nodes = int8.quantize(proto, per_channel, reduce_range)
    with replace_when_complete(path) as draft:
        draft.write_bytes(proto.SerializeToString())
        pair = Pair(session_of(os.fspath(source)), _session(draft))
        results, notes = _beside(pair, feeds, random_feeds(known, ports, seed))
    if not any(node.quantized for node in nodes):
        notes.append("nothing in the model could be quantised")
    return QuantizationReport(
        path=os.fspath(path),
        nodes=tuple(nodes),
        outputs=differences(results),
        compared_on=_compared_on(feeds, seed),
        size_before=size,
        size_after=proto.ByteSize(),
        operators=count_operators(proto.graph),
        notes=tuple(notes),
    )


def _beside(pair: Pair, feeds: list | None, random: Any) -> tuple:
    """What the two files gave, and notes. Random inputs are run in any case, for their shapes."""
    results, notes = pair.at_random(random)
    results = results if feeds is None else pair.on_samples(feeds)
    if not results:
        raise ExportError(
            "The float32 file refuses every random input, so the int8 file could not be "
            f"checked: {'; '.join(notes)}. Give inputs that it takes as `samples`."
        )
    return results, notes


def _compared_on(feeds: list | None, seed: int) -> str:
    if feeds is None:
        return f"random inputs (seed {seed}), which say little about a task"
    return f"the given samples ({len(feeds)} call{'s' if len(feeds) > 1 else ''})"


def int8_lowering(model: keras.Model) -> dict[str, str]:
    """Returns the lowering that int8 needs: "scan" by name of each layer that would be a GRU or RNN
    node, which has no int8 form."""
    chosen = {}
    for layer, place in places_within(model).items():
        if isinstance(layer, keras.layers.RNN):
            for name, form in _forms(layer, place):
                if lower(form).operator in ("GRU", "RNN"):
                    chosen[name] = "scan"
    return chosen


def _forms(layer: keras.layers.RNN, place: str) -> list[tuple[str, NormalForm]]:
    """A name and the normal form of each cell of a layer that has one."""
    if isinstance(layer, GatedRNN):
        return [(place, layer.cell.form)]
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)
    cells = layer.cell.cells if stacked else [layer.cell]
    names = [f"{place}/cell_{k + 1}" for k in range(len(cells))] if stacked else [place]
    pairs = zip(names, map(gated_cell, cells), strict=True)
    return [(name, cell.form) for name, cell in pairs if cell]


def _session(draft: Path) -> Any:
    try:
        return session_of(os.fspath(draft))
    except Exception as error:  # noqa: BLE001 - onnxruntime has many
        raise ExportError(f"onnxruntime cannot load the int8 file: {error}") from error


def _check_arguments(model: Any, path: str | os.PathLike) -> None:
    check_path(path)
    if isinstance(model, keras.Model):
        return
    if not isinstance(model, str | os.PathLike):
        raise ValueError(
            "Argument `model` must be a keras.Model or the path of an ONNX file. "
            f"Received: {type(model).__name__}."
        )
    if not Path(model).is_file():
        raise ValueError(
            "Argument `model` must be a keras.Model or the path of an ONNX file that exists. "
            f"Received: model={os.fspath(model)!r}. Write it with export_onnx first."
        )
    if Path(path).exists() and Path(path).samefile(model):
        raise ValueError(
            "Argument `path` must not be the file that is quantised: its float32 weights would be "
            f"lost. Received: path={os.fspath(path)!r}. Give another, e.g. 'model.int8.onnx'."
        )


def _check_opset(proto: Any) -> None:
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise ValueError(
            f"Argument `model` must be a file of opset {OLDEST_OPSET} or newer, which has "
            f"DynamicQuantizeLinear. Received: opset {opset}. Export it with opset=17."
        )
