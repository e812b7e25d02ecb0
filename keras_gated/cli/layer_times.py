"""Times presets and Keras's own layers for the command bench, and prints a table."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import keras
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from keras_gated.cli.command import table_text
from keras_gated.layers import GatedRNN
from keras_gated.reduction.retracing import without_retracing_warnings
from keras_gated.speed.adapters import make_contender
from keras_gated.speed.onnx_runs import FORMS, onnx_runs
from keras_gated.speed.timing import medians

KERAS = {"keras LSTM": keras.layers.LSTM, "keras GRU": keras.layers.GRU}
KINDS = {"train": "training step", "infer": "inference"}
MOST_TURNS = 1000


class Sizes(NamedTuple):
    """Sizes of the inputs and of the layers."""

    batch: int
    time: int
    inputs: int
    units: int


@dataclass(frozen=True)
class Times:
    """The times of one layer, medians in milliseconds.

    Attributes:
        name: of the preset, or of Keras's layer.
        train: time of a training step: forward, and the gradient of all weights.
        infer: time of inference with the layer alone.
        ratios: {"train" or "infer": {Keras's layer: its time / this layer's time}}.
        onnx: {form: time in onnxruntime}, for the forms that the cell has; empty if not asked for.
    """

    name: str
    train: float
    infer: float
    ratios: Mapping[str, Mapping[str, float]]
    onnx: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """The times of presets and of Keras's layers, at one size on one machine."""

    backend: str
    device: str
    batch: int
    time: int
    inputs: int
    units: int
    layers: tuple[Times, ...]

    def __str__(self) -> str:
        title = (
            f"{self.backend}, {self.device}: medians in ms at batch {self.batch}, {self.time} "
            f"time steps, {self.inputs} inputs, {self.units} units"
        )
        caption = "LSTM / layer: above 1 the layer is faster than Keras's LSTM"
        table = Table("layer", title=title, caption=caption)
        forms = [form for form in FORMS if any(form in layer.onnx for layer in self.layers)]
        for kind in KINDS.values():
            table.add_column(kind, justify="right")
            for name in KERAS:
                table.add_column(f"{name.removeprefix('keras ')} / layer", justify="right")
        for form in forms:
            table.add_column(f"ONNX {form}", justify="right")
        for layer in self.layers:
            in_keras = [cell for kind in KINDS for cell in _row_cells(layer, kind)]
            in_onnx = [f"{layer.onnx[form]:.3g}" if form in layer.onnx else "-" for form in forms]
            table.add_row(layer.name, *in_keras, *in_onnx)
        return table_text(table)


def _row_cells(layer: Times, kind: str) -> list[str]:
    return [f"{getattr(layer, kind):.3g}", *(f"{r:.2f}" for r in layer.ratios[kind].values())]


def compare_layers(
    names: Sequence[str], sizes: Sizes, seconds: float, seed: int, onnx: bool
) -> Comparison:
    """Returns the times of presets and of Keras's layers.

    Args:
        names: of the presets.
        sizes: of the inputs and of the layers.
        seconds: how long to measure, about.
        seed: of weights and inputs.
        onnx: bool. Whether the presets are timed in onnxruntime too.
    """
    keras.utils.set_random_seed(seed)
    rng, sequences = np.random.default_rng(seed), (sizes.batch, sizes.time)
    x = rng.standard_normal((*sequences, sizes.inputs), dtype="float32")
    weights = rng.standard_normal((*sequences, sizes.units), dtype="float32")
    arguments = {"units": sizes.units, "return_sequences": True}
    layers = {name: make(**arguments) for name, make in KERAS.items()}
    layers |= {name: GatedRNN(spec=name, **arguments) for name in names}
    with TemporaryDirectory(prefix="keras_gated_") as folder:
        runs = _runs(layers, x, weights, folder if onnx else None)
        with without_retracing_warnings():
            for run in _with_progress(runs.values()):
                run()  # compiles
        times = {key: 1e3 * t for key, t in medians(runs, MOST_TURNS, seconds).items()}
    rows = tuple(_times_of(name, times) for name in layers)
    return Comparison(keras.backend.backend(), _device(), **sizes._asdict(), layers=rows)


def _runs(
    layers: Mapping[str, Any], x: np.ndarray, weights: np.ndarray, folder: str | None
) -> dict[tuple[str, str], Callable]:
    """Returns what is timed, by (layer, kind or form); ONNX forms only with a folder for files."""
    tensors = [keras.ops.convert_to_tensor(array) for array in (x, weights)]
    runs: dict[tuple[str, str], Callable] = {}
    for name, layer in layers.items():
        layer.build(x.shape)
        contender = make_contender(layer, *tensors)
        runs |= {(name, kind): getattr(contender, kind) for kind in KINDS}
        if folder and name not in KERAS:
            runs |= {(name, form): run for form, run in onnx_runs(layer, x, folder).items()}
    return runs


def _with_progress(runs: Collection[Callable]) -> Iterable[Callable]:
    """Yields the functions; shows a progress bar if stderr is a terminal."""
    console = Console(stderr=True)
    return track(runs, "compiling", console=console, disable=not console.is_terminal)


def _times_of(name: str, times: Mapping[tuple[str, str], float]) -> Times:
    own = {kind: times[name, kind] for kind in KINDS}
    ratios = {
        kind: {theirs: times[theirs, kind] / median for theirs in KERAS}
        for kind, median in own.items()
    }
    onnx = {form: times[name, form] for form in FORMS if (name, form) in times}
    return Times(name, **own, ratios=ratios, onnx=onnx)


def _device() -> str:
    device = str(getattr(keras.ops.convert_to_tensor(0.0), "device", "")).upper()
    return "GPU" if "GPU" in device or "CUDA" in device else "CPU"
