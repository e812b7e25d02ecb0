"""Times and tables from the measured results in docs/speed."""

import json
from functools import lru_cache
from pathlib import Path

import keras_gated as kg
from benchmarks import report, streams
from benchmarks.report import ratios, table

RESULTS = Path(__file__).parents[1] / "docs" / "speed"
SIZE = "(32, 100, 64, 128)"  # batch, time, inputs, units
NOT_MEASURED = "not measured"
KERAS = "keras LSTM"


@lru_cache
def results(name: str) -> dict:
    """Returns the results in the file docs/speed/NAME.json."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


# One preset ------------------------------------------------------------------------------------


@lru_cache
def training_steps() -> dict[str, float]:
    """Returns milliseconds of a training step on TensorFlow, for each preset that was measured."""
    times = results("tensorflow")["sizes"][SIZE]["train"]
    by_spec = {_spec(name): 1e3 * time for name, time in times.items() if _spec(name)}
    return {n: by_spec[known.spec] for n, known in kg.presets.items() if known.spec in by_spec}


def time_text(name: str) -> str:
    """Returns a preset's time, such as "25.5 ms", or "not measured"."""
    return f"{training_steps()[name]:.1f} ms" if name in training_steps() else NOT_MEASURED


def time_sentence(name: str) -> str:
    """Returns a sentence with a preset's time, or one that says that it was not measured."""
    if name not in training_steps():
        return f"{NOT_MEASURED[0].upper()}{NOT_MEASURED[1:]}."
    keras = 1e3 * results("tensorflow")["sizes"][SIZE]["train"][KERAS]
    return (
        f"{time_text(name)} for a training step at (batch, time, inputs, units) = {SIZE} on "
        f"TensorFlow; `keras.layers.LSTM` {keras:.1f} ms "
        "([machine and versions](../speed/tensorflow.md))"
    )


def _spec(name: str) -> kg.CellSpec | None:
    """The specification of a layer in the results; None if the layer is not of this package."""
    if name in kg.presets:
        return kg.presets[name].spec
    return getattr(kg, name)(1).cell.spec if name in kg.__all__ else None


# Tables -----------------------------------------------------------------------------------------


def speed_table() -> str:
    """Returns a table of times of Keras's layers divided by those of gated layers."""
    backends = {"tensorflow": "TensorFlow", "jax": "JAX"}
    kinds = {"train": "training step", "infer": "inference"}
    rows = [
        [f"[{title}](../speed/{backend}.md), {words}, {layer}", *map(_ratio, values)]
        for backend, title in backends.items()
        for kind, words in kinds.items()
        for layer, values in _ratios_to_keras(results(backend), kind)
    ]
    return "\n".join(table(["(batch, time, inputs, units)", *results("jax")["sizes"]], rows))


def _ratio(value: float | None) -> str:
    return f"{value:.2f}" if value else ""


def _ratios_to_keras(result: dict, kind: str) -> list[tuple[str, list[float | None]]]:
    by_pair = ratios(result, kind)
    return [(n, by_pair[f"Gated{n} against keras {n}"]) for n in ("LSTM", "GRU")]


def shares_table() -> str:
    """Returns a table of training times of cells with fewer gates, as shares of the full cell's."""
    return "\n".join(report.shares_table(results("tensorflow")))


def streams_table() -> str:
    """Returns a table of the time of a step and the memory of one of many streams."""
    return "\n".join(streams.table_of_streams(results("device")["streams"]))


def int8_table() -> str:
    """Returns a table that compares times and sizes of int8 files with those of float32 files."""
    rows = [
        [
            f"{row['preset']}, {row['units']} units",
            f"{row['float32'] / row['int8']:.2f}",
            f"{row['int8 bytes'] / row['float32 bytes']:.2f}",
        ]
        for row in results("device")["int8"]
    ]
    return "\n".join(table(["cell", "times as fast as float32", "share of the size"], rows))
