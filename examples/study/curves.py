"""Learning curves: a panel for each cell and task, so that no curve hides another."""

from itertools import zip_longest

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.figures import BASE, COLOR, WIDTH, cells_of
from study.report import Groups, values

COLUMNS = 4
LINE = 0.13  # inches of a line of a title


def learning_curves(
    groups: Groups,
    vanilla: str,
    names: dict[str, str],
    units: dict[str, str],
    by_time: bool = False,
) -> Figure:
    """Returns the validation scores of every seed by updates or seconds, a block for each task.

    In each panel are the seeds of a cell, their range and their median, and the median of the
    vanilla cell. Medians end where the first of their seeds stopped.
    """
    rows = {task: -(-len(cells_of(groups, task)) // COLUMNS) for task in units}
    lines = 1 + max(names.get(cell, cell).count("\n") for _, cell in groups)
    heights = [count * (1.0 + LINE * lines) + 0.35 for count in rows.values()]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.3), layout="constrained")
    blocks = np.ravel(figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights))
    for block, (task, count) in zip(blocks, rows.items(), strict=True):
        _draw_task(block, groups, task, count, vanilla, names, units[task], by_time)
    median, base = Line2D([], [], color=COLOR), Line2D([], [], color=BASE, linestyle="--")
    labels = "median of the seeds", f"median of {names.get(vanilla, vanilla)}".replace("\n", " ")
    figure.legend([median, base], labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_task(block, groups, task, rows, vanilla, names, unit, by_time) -> None:
    by = "seconds of one processor" if by_time else "updates"
    block.suptitle(f"{task}: validation, {unit}, by {by}", x=0.01, ha="left", fontsize="medium")
    columns = min(COLUMNS, len(cells_of(groups, task)))
    panels = np.ravel(block.subplots(rows, columns, sharex=True, sharey=True, squeeze=False))
    base = middle_curve(groups[task, vanilla], by_time)
    for axes, (cell, group) in zip(panels, cells_of(groups, task).items(), strict=False):
        axes.plot(*base, color=BASE, linewidth=1, linestyle="--", zorder=3)
        _draw_cell(axes, group, by_time)
        axes.set_title(names.get(cell, cell), loc="left", fontsize="small")
    for axes in panels[len(cells_of(groups, task)) :]:
        axes.set_visible(False)
    panels[0].set_ylim(*_limits(groups, task))


def _draw_cell(axes, group: list[dict], by_time: bool) -> None:
    steps, curves = all_curves(group, by_time)
    some = np.isfinite(curves).any(axis=0)
    low, high = np.nanmin(curves[:, some], axis=0), np.nanmax(curves[:, some], axis=0)
    axes.fill_between(steps[some], low, high, color=COLOR, alpha=0.15, linewidth=0)
    axes.plot(steps, curves.T, color=COLOR, linewidth=0.4, alpha=0.7)
    axes.plot(*middle_curve(group, by_time), color=COLOR, linewidth=1.4, zorder=4)


def all_curves(group: list[dict], by_time: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Returns updates or seconds (E,) and scores (seeds, E), which are NaN after the last epoch."""
    rows = zip_longest(*values(group, "valid_curve"), fillvalue=np.nan)
    curves = np.array(list(rows), float).T
    seconds = np.median(values(group, "seconds_per_epoch"))
    step = seconds if by_time else group[0]["updates_per_epoch"]
    return step * np.arange(1, curves.shape[1] + 1), curves


def middle_curve(group: list[dict], by_time: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Returns updates or seconds, and the median validation score after each epoch."""
    steps, curves = all_curves(group, by_time)
    return steps, np.median(curves, axis=0)


def _limits(groups: Groups, task: str) -> tuple[float, float]:
    """Returns limits from the best score to above most of every curve."""
    cells = cells_of(groups, task).values()
    curves = [middle_curve(group)[1] for group in cells]
    best = min(min(curve) for group in cells for curve in values(group, "valid_curve"))
    first = np.nanmedian([curve[0] for curve in curves])
    last = max(np.nanmin(curve) for curve in curves)
    most = max(np.nanpercentile(curve, 80) for curve in curves)
    top = max(last + 0.3 * (last - best), best + 0.6 * (first - best), most)
    margin = 0.05 * abs(first - best) or 1e-6
    return best - margin, max(top, best + margin)
