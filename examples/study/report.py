"""The results of the runs as tables, on the screen and on a page."""

import importlib.metadata
import os
import platform
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import keras
from rich.table import Table

import keras_gated as kg
from study.ranks import holm, least_p, rank_test
from study.task import Task

PACKAGES = "keras-gated", "keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy"
PACKAGES += "scipy", "scikit-learn", "music21", "sktime"
Groups = dict[tuple[str, str], list[dict]]


@dataclass(frozen=True)
class Sheet:
    """A table for the terminal and for a page."""

    title: str
    heads: list[str]
    rows: list[list[str]]

    def rich(self) -> Table:
        table = Table(*self.heads[:2], title=self.title)
        for head in self.heads[2:]:
            table.add_column(head, justify="right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        marks = ["---", "---", *["---:"] * (len(self.heads) - 2)]
        lines = (f"| {' | '.join(line)} |" for line in [self.heads, marks, *self.rows])
        return "\n".join([f"**{self.title}**", "", *lines])


def grouped(results: list[dict]) -> Groups:
    """Returns (task, cell) -> its results, in the order of the seeds."""
    groups = defaultdict(list)
    for result in sorted(results, key=lambda result: result["run"]["seed"]):
        groups[result["run"]["task"], result["run"]["cell"]].append(result)
    return groups


def values(group: list[dict], key: str) -> list[float]:
    return [result[key] for result in group]


def number(value: float) -> str:
    """Returns a number with four digits."""
    return f"{value:#.4g}"


def scores(title: str, groups: Groups, tasks: dict[str, Task], labels: dict[str, str]) -> Sheet:
    """Returns a table of median scores; below the cells of a task, its models without a cell."""
    rows = []
    for name, task in tasks.items():
        for (of, cell), group in groups.items():
            if of == name:
                rows.append([name, labels.get(cell, cell), *_row(group)])
        right = {floor: f"{share:.1%}" for floor, share in task.right().items()}
        for floor, value in task.floors().items():
            cells = number(value), "", right.get(floor, ""), ""
            rows.append([name, f"no cell: {floor}", "", "", "", *cells])
    heads = ["set", "cell", "units", "train", "valid", "test", "range", "right", "updates"]
    return Sheet(title, heads, rows)


def _row(group: list[dict]) -> list[str]:
    first, tests = group[0], values(group, "test")
    updates = [r["best_epoch"] * r["updates_per_epoch"] for r in group]
    return [
        str(first["run"]["units"]),
        *(number(median(values(group, part))) for part in ("train", "valid", "test")),
        f"{number(min(tests))} to {number(max(tests))}",
        f"{median(values(group, 'test_accuracy')):.1%}" if "test_accuracy" in first else "",
        f"{median(updates):,.0f}",
    ]


def significance(groups: Groups, vanilla: str, labels: dict[str, str]) -> Sheet:
    """Returns a table of each cell against the vanilla one: difference of medians, rank test."""
    rows = []
    for name in dict.fromkeys(task for task, _ in groups):
        base = values(groups[name, vanilla], "test")
        others = [cell for task, cell in groups if task == name and cell != vanilla]
        tests = {cell: values(groups[name, cell], "test") for cell in others}
        ps = [rank_test(test, base) for test in tests.values()]
        for (cell, test), p, corrected in zip(tests.items(), ps, holm(ps), strict=True):
            difference = f"{median(test) - median(base):+#.2g}"
            rows.append([name, labels.get(cell, cell), difference, f"{p:.3f}", f"{corrected:.3f}"])
    heads = ["set", "cell", "test, median", "p", "p, Holm"]
    seeds, cells = len(next(iter(groups.values()))), len({cell for _, cell in groups})
    least = f"the least p that {seeds} seeds allow is {least_p(seeds, cells - 1):.2g}"
    return Sheet(f"against {labels.get(vanilla, vanilla)}; {least}", heads, rows)


def sizes(groups: Groups, input_dims: dict[str, int], labels: dict[str, str]) -> Sheet:
    """Returns a table of weights, operations, ONNX operator and time of an update of each cell."""
    rows = []
    for (task, cell), group in groups.items():
        units = group[0]["run"]["units"]
        text = kg.describe(cell, input_dim=input_dims[task], units=units).splitlines()
        facts = {line[:14].strip(): line[14:].partition(" ")[0].strip(",;") for line in text}
        times = [1e3 * r["seconds_per_epoch"] / r["updates_per_epoch"] for r in group]
        counts = [facts[key] for key in ("Parameters", "FLOPs", "ONNX")]
        rows.append([task, labels.get(cell, cell), str(units), *counts, f"{median(times):.1f}"])
    heads = ["set", "cell", "units", "weights", "FLOPs", "ONNX", "ms"]
    return Sheet("weights, FLOPs of a time step, ONNX operator, time of an update", heads, rows)


def about(seconds: float, seeds: int) -> str:
    """Returns a paragraph for the page: the command, the date, the machine and the versions."""
    found = {name: _version(name) for name in PACKAGES}
    versions = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    words = (word.rpartition("=") for word in sys.argv[1:])
    words = (k + e + (Path(v).name if os.path.isabs(v) else v) for k, e, v in words)
    backend = keras.backend.backend()
    script = f"examples/{Path(sys.argv[0]).name}"
    command = " ".join([f"KERAS_BACKEND={backend} python", script, *words])
    where = f"{os.cpu_count()} processors, {platform.machine()}, python {platform.python_version()}"
    return (
        f"`{command}`, {time.strftime('%Y-%m-%d')}; seeds 0 to {seeds - 1}; {where}, "
        f"{versions}. "
        f"Training and validation took {seconds / 60:.0f} minutes of one processor. "
        "Each run: [results.jsonl](results.jsonl)."
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_page(path: Path, title: str, about: str, sheets: list[Sheet], pictures: list[str]):
    """Writes the page; if its folder has a comments.md, that text comes first."""
    comments = path.with_name("comments.md")
    words = [comments.read_text(encoding="utf-8").strip()] if comments.exists() else []
    parts = [f"# {title}", *words, about, *(sheet.markdown() for sheet in sheets), *pictures]
    write(path, "\n\n".join(parts) + "\n")


def write(path: Path, text: str) -> None:
    """Writes a file under another name and renames it, so that no file is ever half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
