"""quantize_onnx: writes an ONNX file that multiplies in int8, and measures what that costs.

The steps are: export the Keras model in float32 (unless a file is given), rewrite its graph
(`graph/int8_nodes.py`), run both files on the same inputs (`verify/int8_comparison.py`), report.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_gated.layers import GatedRNN
from keras_gated.onnx.atomic_file import check_path, describe_path, is_file, replace_when_complete
from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.graph import int8_nodes as int8
from keras_gated.onnx.graph.cleanup import count_operators
from keras_gated.onnx.graph.int8_nodes import NodeReport
from keras_gated.onnx.graph.stored_once import restore, store_once
from keras_gated.onnx.model_file import size_on_disk, write_model
from keras_gated.onnx.report import format_counts, format_table
from keras_gated.onnx.runtimes import check_runtimes, have_int8_lstm
from keras_gated.onnx.tracing.layer_places import places_within
from keras_gated.onnx.tracing.patched_layers import to_gated_cell
from keras_gated.onnx.verify.inputs import feeds_from_samples, input_ports
from keras_gated.onnx.verify.int8_comparison import FilePair, OutputDifference, output_differences
from keras_gated.onnx.verify.runners import open_session
from keras_gated.onnx.verify.values import Feeds
from keras_gated.spec.normal_form import NormalForm
from keras_gated.spec.onnx_operator import find_native_operator

OLDEST_OPSET = 11  # the first with DynamicQuantizeLinear


@dataclass(frozen=True)
class QuantizationReport:
    """What `quantize_onnx` wrote. `str()` is a table.

    Attributes:
        path: where the file is.
        nodes: a `NodeReport` for each recurrent node, each product and each node that holds a
            matrix: whether it computes in int8, and why or why not.
        outputs: an `OutputDifference` from the float32 file for each output.
        compared_on: which inputs the differences were measured on.
        size_before, size_after: of the float32 file and of this file, in bytes.
        operators: how many nodes the file has of each operator.
        notes: further remarks, e.g. shapes that the float32 file itself refuses.
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
                f"nodes: {format_counts(self.operators)}",
                *format_table(
                    ("node", "operator", "within", "computes in", "by or why not"), nodes
                ),
                f"difference from the float32 file on {self.compared_on}:",
                *format_table(("output", "largest", "mean", "max |y|"), outputs, right=(1, 2, 3)),
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
    runtimes: Sequence[str] = ("onnxruntime",),
    verify: bool = True,
    seed: int = 0,
    modules: Sequence[str] = (),
) -> QuantizationReport:
    """Writes an ONNX file whose LSTMs and products with weights compute in int8.

    This is dynamic quantisation. Weights are stored as int8 with scales. At each run, the input of
    each product is brought to 8 bits between its smallest and its largest value over the whole
    batch, so the result of a row depends a little on the other rows. No calibration is needed. An
    LSTM becomes onnxruntime's DynamicQuantizeLSTM; a product, also inside a Scan, becomes the
    standard MatMulInteger.

    onnxruntime has no int8 GRU or RNN. From a Keras model, layers that would be such a node are
    exported as a Scan, and its products are quantised. In an ONNX file, such nodes stay in
    float32; the report lists them, and everything else that stays in float32.

    Such a Scan is smaller than the float32 node, and faster at large batches. At batch 1 it is
    slower: 1.4 times at 256 units, 10 times at 64. To keep the node, export with
    lowering="native" and quantise the file.

    Args:
        model: keras.Model, or the path of an ONNX file.
        path: where to write the file.
        samples: inputs to measure the difference on, as the model takes them (an array, list or
            dictionary, (B, T, F) each), or a list of such inputs. None means random numbers, which
            say little about the accuracy on a task.
        input_signature: as in `export_onnx`, for a Keras model that does not know its inputs.
        per_channel: bool. One scale for each unit of a weight, instead of one for the whole weight.
        reduce_range: bool. Weights in 7 bits. On x86 processors without VNNI instructions, products
            of 8 bits overflow and no error is raised: one output was wrong by 0.4 of its largest
            value. Set False only for other processors, to use the eighth bit.
        opset, expected_batch, runtimes, modules: as in `export_onnx`, for a Keras model. A layer
            becomes a Scan, too, if one of the runtimes has no DynamicQuantizeLSTM for it. The int8
            file is compared in onnxruntime.
        verify: bool. Whether to compare the float32 file of a Keras model with the model first, as
            `export_onnx` does. The int8 file is always compared with the float32 file.
        seed: int, of random inputs.

    Returns:
        A `QuantizationReport`. `str()` is a table.

    Raises:
        ExportError: if the model cannot be exported, or if the int8 file does not run.
        ValueError: if an argument has a wrong value.
        ImportError: if a package of the extra "onnx" is not installed.

    Example:
        >>> model = keras.Sequential([keras.Input((None, 3)), kg.GatedLSTM(32, name="lstm")])
        >>> x = np.random.default_rng(0).normal(size=(8, 20, 3)).astype("float32")
        >>> report = kg.quantize_onnx(model, "model.int8.onnx", samples=x)
        >>> [(node.operator, node.quantized) for node in report.nodes]
        [('LSTM', True)]
        >>> float(report.outputs[0].largest) < 0.05
        True
    """
    _check_arguments(model, path)
    if not isinstance(model, keras.Model):
        source = Path(os.fspath(model))
        return _quantize_file(source, path, None, samples, seed, per_channel, reduce_range)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float32.onnx"
        options: dict = {"opset": opset, "expected_batch": expected_batch, "modules": modules}
        options |= {"input_signature": input_signature, "verify": verify, "runtimes": runtimes}
        lowering = int8_lowering(model, check_runtimes(runtimes))
        export_onnx(model, source, lowering=lowering, **options)
        return _quantize_file(source, path, model, samples, seed, per_channel, reduce_range)


def _quantize_file(
    source: Path,
    path: str | os.PathLike,
    model: keras.Model | None,
    samples: Any,
    seed: int,
    per_channel: bool,
    reduce_range: bool,
) -> QuantizationReport:
    """Writes the int8 form of a float32 file, and compares the two.

    Args:
        source: the float32 file.
        model: what it was exported from, if that is known: token indices stay within its
            vocabulary.
        path, samples, seed, per_channel, reduce_range: as in `quantize_onnx`.
    """
    proto = _read(source)
    _check_opset(proto)
    ports = input_ports(proto.graph)
    feeds = None if samples is None else feeds_from_samples(samples, ports)
    random_feeds = Feeds(model, proto.graph, ports, seed)  # of the graph before it changes
    nodes = int8.quantize(proto, per_channel, reduce_range)
    store_once(proto)
    with replace_when_complete(path) as draft:
        write_model(proto, draft)
        size = size_on_disk(draft)
        pair = FilePair(open_session(os.fspath(source)), _open_int8(draft))
        results, notes = _run_both(pair, feeds, random_feeds)
    if not any(node.quantized for node in nodes):
        notes.append("nothing in the model could be quantised")
    return QuantizationReport(
        path=os.fspath(path),
        nodes=tuple(nodes),
        outputs=output_differences(results),
        compared_on=_describe_inputs(feeds, seed),
        size_before=size_on_disk(source),
        size_after=size,
        operators=count_operators(proto.graph),
        notes=tuple(notes),
    )


def _run_both(pair: FilePair, feeds: list | None, make_feed: Callable) -> tuple[list, list]:
    """Returns the results of both files, and notes.

    Random inputs run even if there are samples: they have other batches and time lengths, at which
    the int8 file must not fail either.
    """
    results, notes = pair.run_on_random(make_feed)
    results = results if feeds is None else pair.run_on_samples(feeds)
    if not results:
        raise ExportError(
            "The float32 file refuses every random input, so the int8 file could not be "
            f"checked: {'; '.join(notes)}. Pass inputs that it takes as `samples`."
        )
    return results, notes


def _describe_inputs(feeds: list | None, seed: int) -> str:
    if feeds is None:
        return f"random inputs (seed {seed}), which say little about a task"
    return f"the given samples ({len(feeds)} call{'s' if len(feeds) > 1 else ''})"


def int8_lowering(model: keras.Model, runtimes: Sequence[str] = ("onnxruntime",)) -> dict[str, str]:
    """Returns the `lowering` argument with which all of a model can compute in int8.

    It is {name: "scan"} for each layer, or cell of a stack, that would be a GRU or RNN node:
    onnxruntime has no int8 form of these. Or an LSTM node that another of the runtimes, which are
    names, does not have in int8.
    """
    lowering = {}
    for layer, place in places_within(model).items():
        if isinstance(layer, keras.layers.RNN):
            for name, form in _normal_forms(layer, place):
                operator = find_native_operator(form).operator
                if operator in ("GRU", "RNN") or operator and not have_int8_lstm(runtimes):
                    lowering[name] = "scan"
    return lowering


def _normal_forms(layer: keras.layers.RNN, place: str) -> list[tuple[str, NormalForm]]:
    """Returns (name, normal form) of each cell of a layer; none for cells of another kind."""
    if isinstance(layer, GatedRNN):
        return [(place, layer.cell.form)]
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)
    cells = layer.cell.cells if stacked else [layer.cell]
    names = [f"{place}/cell_{k + 1}" for k in range(len(cells))] if stacked else [place]
    pairs = zip(names, map(to_gated_cell, cells), strict=True)
    return [(name, cell.form) for name, cell in pairs if cell]


def _read(source: Path) -> Any:
    (onnx,) = require("onnx")
    try:
        model = onnx.load(source)
        restore(model)
        return model
    except Exception as error:
        raise ValueError(
            "Argument `model` must be an ONNX file, with the file of its weights beside it if it "
            f"has one. Received: model={os.fspath(source)!r}, which cannot be read: {error}. "
            "Write it again with export_onnx."
        ) from error


def _open_int8(draft: Path) -> Any:
    try:
        return open_session(os.fspath(draft))
    except Exception as error:  # noqa: BLE001 - onnxruntime has many classes of errors
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
    if not is_file(model):
        raise ValueError(
            "Argument `model` must be a keras.Model or the path of an ONNX file that exists. "
            f"Received: model={describe_path(model)}. Write it with export_onnx first."
        )
    if Path(path).exists() and Path(path).samefile(model):
        raise ValueError(
            "Argument `path` must not be the file that is quantised: its float32 weights would be "
            f"lost. Received: path={os.fspath(path)!r}. Give another path, e.g. 'model.int8.onnx'."
        )


def _check_opset(proto: Any) -> None:
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise ValueError(
            f"Argument `model` must be a file of opset {OLDEST_OPSET} or newer, which has "
            f"DynamicQuantizeLinear. Received: opset {opset}. Export it with opset=17."
        )
