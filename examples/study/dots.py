"""Figures with a row for each cell: differences from the vanilla cell, and ranks."""

from statistics import median

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from study.figures import BASE, COLOR, GREY, INK, WIDTH, tests_of
from study.ranks import LEVEL, ranks_of, shift_interval
from study.report import Groups, values

MARKS = "o^sDvP*X<>"  # of tasks, with a colour each
COLORS = COLOR, BASE, "#009e73", "#cc79a7", "#e69f00", GREY, INK
FAR = 6.0  # times the spread of the middle eight tenths: what is farther is not in the figure
COLUMNS = 4


def differences(
    groups: Groups, vanilla: str, names: dict[str, str], units: dict[str, str]
) -> Figure:
    """Returns test scores minus the vanilla cell's median: a panel for each task, a row a cell.

    A dot is a seed. The line is `ranks.shift_interval`; it is black if that test gives
    p < 0.05, before the correction for the number of cells, else grey.
    """
    cells = list(dict.fromkeys(cell for _, cell in groups))
    rows = -(-len(units) // COLUMNS)
    size = WIDTH, rows * (_height(names, cells) + 0.6) + 0.2
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, min(COLUMNS, len(units)), sharey=True, squeeze=False)
    for axes in panels.flat[len(units) :]:
        axes.set_visible(False)
    for axes, (task, unit) in zip(panels.flat, units.items(), strict=False):
        _difference_panel(axes, tests_of(groups, task), cells, vanilla)
        axes.set_title(f"{task}\n({unit})")
    for axes in panels[:, 0]:
        _name_rows(axes, cells, names)
    base = names.get(vanilla, vanilla).replace("\n", " ")
    figure.supxlabel(f"test score minus the median of {base}; less is better", fontsize="medium")
    return figure


def _difference_panel(axes, scores: dict[str, list[float]], cells: list[str], vanilla: str) -> None:
    base, ends = scores[vanilla], []
    for row, cell in enumerate(cells):
        if cell in scores:
            ends += _difference_row(axes, row, scores[cell], base, cell == vanilla)
    axes.axvline(0, color=BASE, linewidth=1, linestyle="--", zorder=0)
    axes.set_xlim(*_span(np.array(ends)))
    axes.tick_params(axis="x", labelrotation=30)


def _difference_row(axes, row: int, scores: list[float], base: list[float], is_base: bool) -> list:
    """Draws the seeds of a cell; and, unless it is the vanilla cell, the interval and the bar.

    Returns the places of all that it has drawn.
    """
    middle = median(base)
    places = np.subtract(scores, middle)
    heights = row + np.linspace(-0.25, 0.25, len(scores))
    axes.scatter(places, heights, 9, color=BASE if is_base else COLOR)
    if is_base:
        return [*places]
    low, high, confidence = shift_interval(scores, base)
    color = INK if confidence > 1 - LEVEL and not low <= 0 <= high else GREY
    axes.plot([low, high], [row, row], color=color, linewidth=1.2, zorder=0)
    axes.plot([median(scores) - middle] * 2, [row - 0.3, row + 0.3], color=color, linewidth=2)
    return [*places, low, high]


def _span(found: np.ndarray) -> tuple[float, float]:
    """Returns limits that hold all places, but not those of runs that diverged."""
    low, middle, high = np.percentile(found, [10, 50, 90])
    reach = FAR * max(high - low, 1e-9)
    near = found[abs(found - middle) <= reach]
    margin = 0.06 * max(near.max() - near.min(), 1e-9)
    return near.min() - margin, near.max() + margin


def rank_plot(groups: Groups, names: dict[str, str]) -> Figure:
    """Returns the ranks of the cells: a dot for each task and seed, a bar for the mean."""
    cells = list(dict.fromkeys(cell for _, cell in groups))
    tasks = list(dict.fromkeys(task for task, _ in groups))
    columns = {c: [v for t in tasks for v in values(groups[t, c], "test")] for c in cells}
    task_of = np.array([n for n, t in enumerate(tasks) for _ in groups[t, cells[0]]])
    ranks = ranks_of(columns)
    order = sorted(cells, key=lambda cell: np.mean(ranks[cell]))
    figure = Figure(
        figsize=(WIDTH, _height(names, cells, len(task_of)) + 0.8), layout="constrained"
    )
    axes = figure.subplots()
    for row, cell in enumerate(order):
        _rank_row(axes, row, np.array(ranks[cell]), task_of)
    for number, task in enumerate(tasks):
        axes.scatter([], [], 14, **_mark(number), label=task)
    _name_rows(axes, order, names)
    axes.set(xlabel="rank by test score, 1 is best", xlim=(0.5, len(cells) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper right", ncols=len(tasks), frameon=False)
    return figure


def _rank_row(axes, row: int, ranks: np.ndarray, task_of: np.ndarray) -> None:
    heights = row + np.linspace(-0.4, 0.4, len(ranks))
    for number in np.unique(task_of):
        chosen = task_of == number
        axes.scatter(ranks[chosen], heights[chosen], 9, **_mark(number), zorder=3)
    axes.plot(np.percentile(ranks, [25, 75]), [row, row], color=GREY, linewidth=1.2, zorder=0)
    axes.plot([np.mean(ranks)] * 2, [row - 0.4, row + 0.4], color=INK, linewidth=2)


def _mark(number: int) -> dict:
    """Returns marker and colour of a task; they repeat only after 70 tasks."""
    return {"marker": MARKS[number % len(MARKS)], "color": COLORS[number % len(COLORS)]}


def _name_rows(axes, cells: list[str], names: dict[str, str]) -> None:
    axes.set_yticks(range(len(cells)), [names.get(cell, cell) for cell in cells])
    axes.set_ylim(len(cells) - 0.4, -0.6)  # the first on top


def _height(names: dict[str, str], cells: list[str], dots: int = 0) -> float:
    """Returns the inches of all rows, with so many dots in each."""
    lines = max(1 + names.get(cell, cell).count("\n") for cell in cells)
    return len(cells) * max(0.06 + 0.14 * lines, 0.05 * dots, 0.3)
