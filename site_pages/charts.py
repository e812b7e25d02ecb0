"""Draws the measured speed as charts, in the colours of light and of dark pages."""

import io
from collections.abc import Iterator
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from benchmarks.sizes import LAST

SIZE = "(32, 100, 64, 128)"  # batch, time, inputs, units
LAYERS = {  # name in the results: label in the chart
    "keras LSTM": "keras.layers.LSTM",
    "GatedLSTM": "GatedLSTM",
    "keras GRU": "keras.layers.GRU",
    "GatedGRU": "GatedGRU",
    "cifg": "cifg: input and forget gate tied",
    "mgu": "mgu: one gate",
    "janet": "janet: the forget gate alone",
    "min_gru": "min_gru: parallel in time",
}
RATIOS = {  # label: what is measured, ours, theirs
    f"{name}, {words}": (kind, f"Gated{name}{end}", f"keras {name}{end}")
    for words, kind, end in (
        ("training step", "train", ""),
        ("training step, last output", "train", LAST),
        ("inference", "infer", ""),
    )
    for name in ("LSTM", "GRU")
}
BACKENDS = {"tensorflow": ("TensorFlow", "o"), "jax": ("JAX", "s")}


class Palette(NamedTuple):
    """Colours: of texts and lines, our layers, Keras's layers, a second series, and a grid."""

    ink: str
    ours: str
    theirs: str
    second: str
    grid: str


LIGHT = Palette("#333333", "#00796b", "#a8a8a8", "#d55e00", "#dddddd")
DARK = Palette("#dddddd", "#4db6ac", "#7c7c7c", "#ff9e80", "#444444")


def draw_speed(results: dict, dark: bool = False) -> str:
    """Returns a bar chart of the time of a training step of some layers, as an `<svg>`.

    Args:
        results: those of docs/speed/tensorflow.json.
        dark: whether the chart is for a dark page.
    """
    times = results["sizes"][SIZE]["train"]
    names = [name for name in LAYERS if name in times]
    palette = DARK if dark else LIGHT
    with matplotlib.rc_context(style(palette)):
        figure = Figure(figsize=(5.6, 0.3 * len(names) + 0.35), layout="constrained")
        axes = figure.subplots()
        values = [1e3 * times[name] for name in names]
        colours = [palette.theirs if "keras" in name else palette.ours for name in names]
        bars = axes.barh(range(len(names)), values, 0.72, color=colours)
        axes.bar_label(bars, [f"{value:.1f} ms" for value in values], padding=4)
        axes.set_yticks(range(len(names)), [LAYERS[name] for name in names])
        axes.set_xlim(0, 1.16 * max(values))
        axes.invert_yaxis()
        axes.xaxis.set_visible(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_title(f"Milliseconds of a training step, {SIZE}", loc="left")
        return svg_of(figure)


def draw_ratios(results: dict[str, dict], dark: bool = False) -> str:
    """Returns a chart of how many times as fast as Keras's our layers are, as an `<svg>`.

    A mark is a size. Right of the dashed line ours is faster.

    Args:
        results: {"tensorflow": those of docs/speed/tensorflow.json, "jax": ...}.
        dark: whether the chart is for a dark page.
    """
    palette = DARK if dark else LIGHT
    with matplotlib.rc_context(style(palette)):
        figure = Figure(figsize=(5.6, 0.36 * len(RATIOS) + 0.9), layout="constrained")
        axes = figure.subplots()
        colours = (palette.ours, palette.second)
        for k, (backend, (title, mark)) in enumerate(BACKENDS.items()):
            for row, found in enumerate(_ratios(results[backend])):
                y = row + 0.36 * (k - 0.5)
                axes.scatter(found, [y] * len(found), 14, colours[k], marker=mark, alpha=0.75)
            label = f"{title}, a mark for each size"
            axes.scatter([], [], 14, colours[k], marker=mark, label=label)
        axes.axvline(1, color=palette.ink, linewidth=0.8, linestyle="--", zorder=0)
        axes.set_yticks(range(len(RATIOS)), list(RATIOS))
        axes.invert_yaxis()
        ticks = [1, 2, 4, 8, 16]
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FixedFormatter([f"{tick}×" for tick in ticks]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="x", color=palette.grid, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, handletextpad=0.2)
        axes.set_xlabel("times as fast as keras.layers")
        return svg_of(figure)


def _ratios(result: dict) -> Iterator[list[float]]:
    """For each row of RATIOS the ratios at all sizes that were measured."""
    for kind, ours, theirs in RATIOS.values():
        times = [by_kind[kind] for by_kind in result["sizes"].values()]
        yield [t[theirs] / t[ours] for t in times if {ours, theirs} <= set(t)]


# How charts look --------------------------------------------------------------------------------


def style(palette: Palette) -> dict:
    """Returns settings of matplotlib: texts stay texts, and equal numbers give equal files."""
    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {
        "font.size": 10,
        "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
        "axes.titlesize": 10,
        "svg.fonttype": "none",
        "svg.hashsalt": "chart",
        **dict.fromkeys(inks, palette.ink),
    }


def svg_of(figure: Figure) -> str:
    """Returns a figure as an `<svg>` without a background and without a date."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def write_charts(results: dict[str, dict]) -> dict[str, str]:
    """Returns the charts of the site by place, light and dark; arguments as in `draw_ratios`."""
    files = {}
    for kind, dark in (("light", False), ("dark", True)):
        files[f"speed/step-{kind}.svg"] = draw_speed(results["tensorflow"], dark)
        files[f"speed/ratios-{kind}.svg"] = draw_ratios(results, dark)
    return files
