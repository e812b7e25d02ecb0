"""Figures of a study: each as SVG for pages, and as PDF for print."""

import io
import re
import textwrap
from collections.abc import Callable, Collection
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import keras_gated as kg
from study.report import Groups, values

WIDTH = 7.0  # inches: a page of a paper; figures need not be made smaller, so letters stay legible
# Also different for the colour-blind. Ink is the colour of texts and of what is certain.
COLOR, BASE, GREY, INK = "#0072b2", "#d55e00", "#737373", "#222222"
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "path.simplify_threshold": 0.5,  # points: what is left out cannot be seen
    "svg.hashsalt": "study",  # the same results give the same file
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
TEXTS = {
    "differences": "Differences on the test set: a dot is a seed, the bar the difference of "
    "medians, the line the interval that the Mann-Whitney test gives",
    "curves": "Validation score by updates: thin lines are seeds, the area is their range",
    "time": "Validation score by seconds: thin lines are seeds, the area is their range",
    "ranks": "Ranks: a dot is a seed on a task, the bar the mean, the line the middle half",
}


def draw_all(
    groups: Groups,
    vanilla: str,
    labels: dict[str, str],
    units: dict[str, str],
    folder: Path,
    only: Collection[str] = (),
) -> list[str]:
    """Draws all figures of a comparison into a folder; returns them as Markdown.

    Args:
        groups: (task, cell) -> its runs.
        vanilla: the cell with which the others are compared.
        labels: cell -> its label, as in the tables.
        units: task -> unit of its score.
        only: names of the figures to draw; by default all.
    """
    from study import curves, dots

    names = {cell: title_of(cell, label) for cell, label in labels.items()}
    with matplotlib.rc_context(STYLE):
        draw: dict[str, Callable[[], Figure]] = {
            "differences": lambda: dots.differences(groups, vanilla, names, units),
            "curves": lambda: curves.learning_curves(groups, vanilla, names, units),
            "time": lambda: curves.learning_curves(groups, vanilla, names, units, by_time=True),
            "ranks": lambda: dots.rank_plot(groups, names),
        }
        chosen = [name for name in draw if not only or name in only]
        for name in chosen:
            save(draw[name](), folder / name)
    return [picture(name) for name in chosen]


def picture(name: str) -> str:
    """Returns a figure for the page, and what it shows."""
    return f"![{TEXTS[name]}]({name}.svg)\n\n{TEXTS[name]}."


def title_of(cell: str, label: str) -> str:
    """Returns what a cell is called in a figure: its title and its name, in short lines.

    A label that is not the name is taken as it is.
    """
    if label != cell or cell not in kg.presets:
        return label
    return "\n".join([*textwrap.wrap(kg.presets[cell].title, 30), f"({cell})"])


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PATH.svg and PATH.pdf."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    path.with_suffix(".svg").write_text(shorten_numbers(file.getvalue()), encoding="utf-8")


def shorten_numbers(svg: str) -> str:
    """Returns an SVG with one digit behind the point, and lines as steps: half as long."""
    lines = re.compile(r' d="M ([-\d.]+) ([-\d.]+) ((?:\nL [-\d.]+ [-\d.]+ )+)(z?) ?\n?"')
    svg = lines.sub(_relative_line, svg)
    places = re.compile(r' (?:d|x|y)="[^"]*"')
    return places.sub(lambda found: re.sub(r"(\.\d)\d+", r"\1", found[0]), svg)


def _relative_line(found: re.Match) -> str:
    """The line of a match as steps from point to point, in tenths that add up."""
    numbers = [found[1], found[2], *found[3].replace("L", "").split()]
    points = np.round(10 * np.array(numbers, float).reshape(-1, 2)).astype(int)
    steps = " ".join(f"{x / 10:g} {y / 10:g}" for x, y in np.diff(points, axis=0))
    return f' d="M{points[0, 0] / 10:g} {points[0, 1] / 10:g}l{steps}{found[4]}"'.replace(" -", "-")


def cells_of(groups: Groups, task: str) -> dict[str, list[dict]]:
    return {cell: group for (of, cell), group in groups.items() if of == task}


def tests_of(groups: Groups, task: str) -> dict[str, list[float]]:
    """Returns cell -> test scores of its seeds."""
    return {cell: values(group, "test") for cell, group in cells_of(groups, task).items()}
