"""Figures of a study: learning curves, and ranks of the cells."""

from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from study.ranks import ranks_of
from study.report import Groups, values
from study.task import Task


def learning_curves(
    groups: Groups, labels: dict[str, str], tasks: dict[str, Task], path: Path
) -> None:
    """Draws the validation scores by updates and by seconds, medians of the seeds, a row a task.

    A curve ends where the first of its seeds stopped.
    """
    figure = Figure(figsize=(10, 2.6 * len(tasks) + 0.4), layout="constrained")
    panels = figure.subplots(len(tasks), 2, sharey="row", squeeze=False)
    for (by_updates, by_seconds), task in zip(panels, tasks, strict=True):
        by_updates.set(title=task, ylabel=f"valid, {tasks[task].unit}")
        for number, (cell, group) in enumerate(cells_of(groups, task).items()):
            curve, updates, seconds = middle_curve(group)
            style = {"color": f"C{number % 10}", "label": labels.get(cell, cell)}
            style["linestyle"] = ["-", "--", ":"][number // 10 % 3]
            by_updates.plot(updates, curve, **style)
            by_seconds.plot(seconds, curve, **style)
        for axes in (by_updates, by_seconds):
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylim(*_limits(groups, task))
        by_seconds.legend(fontsize="small", frameon=False, loc="best", ncols=2)
    panels[-1, 0].set_xlabel("updates")
    panels[-1, 1].set_xlabel("seconds of one processor, validation not counted")
    figure.savefig(path, dpi=120)


def cells_of(groups: Groups, task: str) -> dict[str, list[dict]]:
    return {cell: group for (of, cell), group in groups.items() if of == task}


def middle_curve(group: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the median validation score after each epoch, the updates and the seconds."""
    rows = zip_longest(*values(group, "valid_curve"), fillvalue=np.nan)
    curve = np.median(np.array(list(rows), float), axis=1)
    epochs = np.arange(1, len(curve) + 1)
    seconds = np.median(values(group, "seconds_per_epoch"))
    return curve, epochs * group[0]["updates_per_epoch"], epochs * seconds


def _limits(groups: Groups, task: str) -> tuple[float, float]:
    """Returns limits from the best score to a bit above the first scores, with all curves' ends."""
    curves = [middle_curve(group)[0] for group in cells_of(groups, task).values()]
    best = min(np.nanmin(curve) for curve in curves)
    first = np.nanmedian([curve[0] for curve in curves])
    last = max(np.nanmin(curve) for curve in curves)
    top = max(last + 0.3 * (last - best), best + 0.6 * (first - best))
    return best - 0.05 * (first - best), top


def rank_plot(groups: Groups, labels: dict[str, str], path: Path) -> None:
    """Draws the rank of each cell, 1 is best: a dot for each task and seed, a bar for the mean."""
    cells = list(dict.fromkeys(cell for _, cell in groups))
    tasks = list(dict.fromkeys(task for task, _ in groups))
    columns = {c: [v for t in tasks for v in values(groups[t, c], "test")] for c in cells}
    task_of = [n for n, t in enumerate(tasks) for _ in groups[t, cells[0]]]
    ranks = ranks_of(columns)
    order = sorted(cells, key=lambda cell: -np.mean(ranks[cell]))
    figure = Figure(figsize=(8, 0.32 * len(cells) + 1.4), layout="constrained")
    axes = figure.subplots()
    for row, cell in enumerate(order):
        heights = row + np.linspace(-0.25, 0.25, len(task_of))
        axes.scatter(ranks[cell], heights, 14, c=[f"C{n}" for n in task_of])
        axes.plot([np.mean(ranks[cell])] * 2, [row - 0.35, row + 0.35], color="0.2", linewidth=2)
    for number, task in enumerate(tasks):
        axes.scatter([], [], 14, color=f"C{number}", label=task)
    axes.set_yticks(range(len(order)), [labels.get(cell, cell) for cell in order])
    axes.set(xlabel="rank by test score, 1 is best", xlim=(0.5, len(cells) + 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=120)
