"""The command bench: how long presets take, beside Keras's own LSTM and GRU of the same size."""

import argparse
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from keras_gated.cli.cells import Result, add_sizes, as_text, command, natural
from keras_gated.layers import GatedRNN
from keras_gated.spec.presets import presets
from keras_gated.speed.adapters import adapted
from keras_gated.speed.onnx_runs import FORMS, onnx_runs
from keras_gated.speed.timing import medians

KERAS = {"keras LSTM": keras.layers.LSTM, "keras GRU": keras.layers.GRU}
KINDS = {"train": "training step", "infer": "inference"}
TURNS = 1000  # at most


@dataclass(frozen=True)
class Times:
    """The times of one layer, medians in milliseconds.

    Attributes:
        name: of the preset, or of Keras's layer.
        train: of a training step: forward, and the gradient by all weights.
        infer: of the layer alone.
        ratios: {"train" or "infer": {Keras's layer: its time by this one's}}.
        onnx: {form: time in onnxruntime}, of the forms that the cell has; empty if not asked for.
    """

    name: str
    train: float
    infer: float
    ratios: Mapping[str, Mapping[str, float]]
    onnx: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """Presets beside Keras's layers, at one size on one machine."""

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
        table = Table("layer", title=title, caption="LSTM / it: above 1 it is faster than Keras's")
        forms = [form for form in FORMS if any(form in layer.onnx for layer in self.layers)]
        beside = [f"{name.removeprefix('keras ')} / it" for name in KERAS]
        for kind in KINDS.values():
            table.add_column(kind, justify="right")
            for head in beside:
                table.add_column(head, justify="right")
        for form in forms:
            table.add_column(f"ONNX {form}", justify="right")
        for layer in self.layers:
            cells = [c for kind in KINDS for c in _cells(getattr(layer, kind), layer.ratios[kind])]
            inside = [f"{layer.onnx[form]:.3g}" if form in layer.onnx else "-" for form in forms]
            table.add_row(layer.name, *cells, *inside)
        return as_text(table)


def _cells(median: float, ratios: Mapping[str, float]) -> list[str]:
    return [f"{median:.3g}", *(f"{ratio:.2f}" for ratio in ratios.values())]


def bench_parser(commands) -> None:
    """Adds the command's parser."""
    text = (
        "Measure a training step and inference of named cells beside keras.layers.LSTM and GRU of "
        "the same size, on the backend that Keras is set to (KERAS_BACKEND), compiled by XLA where "
        "it has that, all in turns. On a GPU Keras's layers may run on cuDNN."
    )
    parser = command(commands, "bench", _bench, text)
    parser.add_argument("names", nargs="+", metavar="NAME")
    add_sizes(parser, default=64)
    _number(parser, "--batch", 32, "B", "sequences at once")
    _number(parser, "--time", 100, "T", "time steps")
    _number(parser, "--seconds", 10, "S", "to measure for, about, beside compilation")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and inputs")
    parser.add_argument(
        "--onnx",
        action="store_true",
        help=f"also each cell's forms in onnxruntime on one thread: {', '.join(FORMS)}",
    )


def _number(parser: argparse.ArgumentParser, name: str, default: int, metavar: str, text: str):
    text = f"{text}; {default} unless given"
    parser.add_argument(name, type=natural, default=default, metavar=metavar, help=text)


def _bench(options) -> Result:
    keras.utils.set_random_seed(options.seed)
    named = {name: presets[name].name for name in options.names}  # an unknown name ends it here
    rng, sequences = np.random.default_rng(options.seed), (options.batch, options.time)
    x = rng.standard_normal((*sequences, options.inputs), dtype="float32")
    weights = rng.standard_normal((*sequences, options.units), dtype="float32")
    every = {"units": options.units, "return_sequences": True}
    layers = {name: make(**every) for name, make in KERAS.items()}
    layers |= {name: GatedRNN(spec=preset, **every) for name, preset in named.items()}
    with TemporaryDirectory(prefix="keras_gated_") as folder:
        runs = _runs(layers, x, weights, folder if options.onnx else None)
        with _without_warnings():
            for run in _with_progress(runs.values()):
                run()  # compiles
        found = {key: 1e3 * t for key, t in medians(runs, TURNS, options.seconds).items()}
    size = {name: getattr(options, name) for name in ("batch", "time", "inputs", "units")}
    times = tuple(_times(name, found) for name in layers)
    return Result(Comparison(keras.backend.backend(), _device(), **size, layers=times))


def _runs(layers: Mapping[str, Any], x, weights, folder: str | None) -> dict[tuple, Callable]:
    """What is timed, by layer and by what it is; in ONNX only with a folder for the files."""
    tensors = [keras.ops.convert_to_tensor(array) for array in (x, weights)]
    runs: dict[tuple, Callable] = {}
    for name, layer in layers.items():
        layer.build(x.shape)
        ready = adapted(layer, *tensors)
        runs |= {(name, kind): getattr(ready, kind) for kind in KINDS}
        if folder and name not in KERAS:
            runs |= {(name, form): run for form, run in onnx_runs(layer, x, folder).items()}
    return runs


@contextmanager
def _without_warnings() -> Iterator[None]:
    """TensorFlow takes layers after one another for one function that is traced anew."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _with_progress(runs: Collection[Callable]) -> Iterable[Callable]:
    """The same, with a bar where somebody looks on."""
    console = Console(stderr=True)
    return track(runs, "compiling", console=console, disable=not console.is_terminal)


def _times(name: str, found: Mapping[tuple, float]) -> Times:
    own = {kind: found[name, kind] for kind in KINDS}
    ratios = {
        kind: {theirs: found[theirs, kind] / median for theirs in KERAS}
        for kind, median in own.items()
    }
    onnx = {form: found[name, form] for form in FORMS if (name, form) in found}
    return Times(name, **own, ratios=ratios, onnx=onnx)


def _device() -> str:
    device = str(getattr(keras.ops.convert_to_tensor(0.0), "device", "")).upper()
    return "GPU" if "GPU" in device or "CUDA" in device else "CPU"
