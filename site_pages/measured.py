"""Times and tables from the measured results in docs/speed."""

import json
from functools import lru_cache
from pathlib import Path

import keras_gated as kg
from benchmarks import report, streams
from benchmarks.report import ratios, table
from benchmarks.sizes import LAST

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
    """Returns a table of times of Keras's layers divided by those of gated layers, LSTM and GRU."""
    columns = {
        f"{title}, {words}": _ratios_to_keras(results(backend), *which)
        for backend, title in {"tensorflow": "TensorFlow", "jax": "JAX"}.items()
        for words, which in {
            "training step": ("train", ""),
            "training step, last output": ("train", LAST),
            "inference": ("infer", ""),
        }.items()
    }
    rows = [
        [size, *(found.get(size, "") for found in columns.values())]
        for size in results("tensorflow")["sizes"]
    ]
    return "\n".join(table(["(batch, time, inputs, units)", *columns], rows))


def _ratios_to_keras(result: dict, kind: str, end: str) -> dict[str, str]:
    """By size, e.g. "1.50, 1.81"."""
    by_pair = ratios(result, kind)
    found = [by_pair.get(f"Gated{n}{end} against keras {n}{end}", []) for n in ("LSTM", "GRU")]
    pairs = zip(result["sizes"], *found, strict=False)
    return {size: f"{lstm:.2f}, {gru:.2f}" for size, lstm, gru in pairs if lstm and gru}


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
