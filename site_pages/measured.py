"""Times and tables from the measured results in docs/speed."""

import json
from functools import lru_cache
from pathlib import Path

import keras_gated as kg
from benchmarks import cells, report, streams
from benchmarks.report import ratios, table
from benchmarks.sizes import LAST

RESULTS = Path(__file__).parents[1] / "docs" / "speed"


@lru_cache
def results(name: str) -> dict:
    """Returns the results in the file docs/speed/NAME.json."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


# One preset ------------------------------------------------------------------------------------


@lru_cache
def cell_facts(name: str) -> dict:
    """Returns what was measured of a preset, and what its specification says.

    `train` and `onnx` are shares of the times of Keras's LSTM.

    Raises:
        KeyError: if the preset was not measured, or has another number of weights since.
    """
    found = results("cells")["cells"]
    weights = kg.count_parameters(name, cells.TRAIN.inputs, cells.TRAIN.units)
    if name not in found or found[name]["weights"] != weights:
        raise KeyError(
            f"docs/speed/cells.json must have preset {name!r} with {weights} weights. "
            "Run: python -m benchmarks.cells --out docs/speed"
        )
    cell = kg.GatedCell(cells.TRAIN.units, name)
    parallel = "scan" if cell.parallel_in_time else "newton" if cell.newton_in_time else ""
    return {
        **{key: found[name][key] for key in ("weights", "bytes", "operator")},
        **{kind: cells.share(found[name], kind) for kind in ("train", "onnx")},
        **{"states": len(cell.form.states), "parallel": parallel},
    }


def time_sentence(name: str) -> str:
    """Returns a sentence with the measured times of a preset."""
    cell, facts = results("cells")["cells"][name], cell_facts(name)
    return (
        f"A training step takes {facts['train']:.2f} of the time of `keras.layers.LSTM` "
        f"({1e3 * cell['train']:.1f} ms at (batch, time, inputs, units) = {cells.TRAIN} on "
        f"TensorFlow under XLA), a run of the ONNX file, of {cell['bytes']:,} bytes, "
        f"{facts['onnx']:.2f} ({1e3 * cell['onnx']:.3f} ms at {cells.RUN} in onnxruntime on one "
        "thread); [machine and versions](../speed/cells.md)"
    )


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
