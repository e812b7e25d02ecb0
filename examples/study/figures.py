"""Figures of a study, for the screen and for print: each as PNG, SVG and PDF."""

import textwrap
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

import keras_gated as kg
from study.report import Groups, values

WIDTH = 7.0  # inches: a page of a paper; figures need not be made smaller, so letters stay legible
COLOR, BASE, GREY = "#0072b2", "#d55e00", "0.45"  # also different for the colour-blind
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "svg.hashsalt": "study",  # the same results give the same file
}
TEXTS = {
    "differences": "Differences on the test set: a dot is a seed, the bar the difference of "
    "medians, the line the interval that the Mann-Whitney test gives",
    "curves": "Validation score by updates: thin lines are seeds, the area is their range",
    "time": "Validation score by seconds: thin lines are seeds, the area is their range",
    "ranks": "Ranks: a dot is a seed on a task, the bar the mean, the line the middle half",
}
ENDINGS = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def draw_all(
    groups: Groups, vanilla: str, labels: dict[str, str], units: dict[str, str], folder: Path
) -> list[str]:
    """Draws all figures of a comparison into a folder; returns them as Markdown.

    Args:
        groups: (task, cell) -> its runs.
        vanilla: the cell with which the others are compared.
        labels: cell -> its label, as in the tables.
        units: task -> unit of its score.
    """
    from study import curves, dots

    names = {cell: title_of(cell, label) for cell, label in labels.items()}
    with matplotlib.rc_context(STYLE):
        figures = {
            "differences": dots.differences(groups, vanilla, names, units),
            "curves": curves.learning_curves(groups, vanilla, names, units),
            "time": curves.learning_curves(groups, vanilla, names, units, by_time=True),
            "ranks": dots.rank_plot(groups, names),
        }
        for name, figure in figures.items():
            save(figure, folder / name)
    return [picture(name) for name in figures]


def picture(name: str) -> str:
    """Returns a figure for the page, with links to the files for print."""
    text = TEXTS[name]
    return f"![{text}]({name}.png)\n\n{text}. For print: [SVG]({name}.svg), [PDF]({name}.pdf)."


def title_of(cell: str, label: str) -> str:
    """Returns what a cell is called in a figure: its title and its name, in short lines.

    A label that is not the name is taken as it is.
    """
    if label != cell or cell not in kg.presets:
        return label
    return "\n".join([*textwrap.wrap(kg.presets[cell].title, 30), f"({cell})"])


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, SVG and PDF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for ending, metadata in ENDINGS.items():
        figure.savefig(path.with_suffix(f".{ending}"), dpi=150, metadata=metadata)


def cells_of(groups: Groups, task: str) -> dict[str, list[dict]]:
    return {cell: group for (of, cell), group in groups.items() if of == task}


def tests_of(groups: Groups, task: str) -> dict[str, list[float]]:
    """Returns cell -> test scores of its seeds."""
    return {cell: values(group, "test") for cell, group in cells_of(groups, task).items()}
