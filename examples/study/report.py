"""The results of the runs as tables, on the screen and on a page."""

import os
import platform
import re
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import keras_gated as kg
from study.command import command_line
from study.ranks import LEVEL, enough_seeds, holm, least_p, rank_test, shift_interval
from study.sheet import Sheet, read_sheets
from study.task import Task
from study.versions import versions, versions_text

Groups = dict[tuple[str, str], list[dict]]


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
    return Sheet(title, heads, rows, optional=("updates", "train", "right", "units", "valid"))


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
    """Returns a table of each cell against the vanilla one: differences and a rank test."""
    rows = []
    for name in dict.fromkeys(task for task, _ in groups):
        base = values(groups[name, vanilla], "test")
        others = [cell for task, cell in groups if task == name and cell != vanilla]
        tests = {cell: values(groups[name, cell], "test") for cell in others}
        ps = [rank_test(test, base) for test in tests.values()]
        for (cell, test), p, corrected in zip(tests.items(), ps, holm(ps), strict=True):
            low, high, _ = shift_interval(test, base)
            differences = signed(median(test) - median(base)), f"{signed(low)} to {signed(high)}"
            rows.append(
                [name, labels.get(cell, cell), *differences, f"{p:.3f}", f"{corrected:.3f}"]
            )
    heads = ["set", "cell", "test, median", "interval", "p", "p, Holm"]
    return Sheet(_test_title(groups, vanilla, labels), heads, rows, optional=("p", "interval"))


def signed(value: float) -> str:
    """Returns a difference with its sign and two digits."""
    return f"{value:+#.2g}"


def _test_title(groups: Groups, vanilla: str, labels: dict[str, str]) -> str:
    """Returns what is compared, how sure the interval is, and what the seeds allow."""
    seeds, cells = len(next(iter(groups.values()))), len({cell for _, cell in groups})
    least, needed = least_p(seeds, cells - 1), enough_seeds(cells - 1)
    _, _, confidence = shift_interval(list(range(seeds)), list(range(seeds)))
    title = f"against {labels.get(vanilla, vanilla)}"
    if seeds > 1:
        title += f"; intervals of {confidence:.0%}"
    title += f"; the least p that {seeds} seeds allow is {least:.2g}"
    return title if least < LEVEL else f"{title}: take --seeds {needed} to see a difference"


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
    title = "weights, FLOPs of a time step, ONNX operator, time of an update"
    return Sheet(title, heads, rows, optional=("units",))


def about(seconds: float, seeds: int, results: list[dict] = ()) -> str:
    """Returns a paragraph for the page: the command, the date, the machine and the versions.

    Args:
        seconds: that all runs took.
        seeds: number of seeds.
        results: the runs, each of which names its versions; else the versions are those installed.
    """
    found = versions_text(results) or versions_text([{"versions": versions()}])
    where = f"{os.cpu_count()} processors, {platform.machine()}, python {platform.python_version()}"
    return (
        f"`{command_line()}`, {time.strftime('%Y-%m-%d')}; seeds 0 to {seeds - 1}; {where}, "
        f"{found}. "
        f"Training and validation took {seconds / 60:.0f} minutes of one processor. "
        "Each run, with the specification of its cell: [results.jsonl](results.jsonl)."
    )


def write_page(path: Path, title: str, about: str, sheets: list[Sheet], pictures: list[str]):
    """Writes the page: the answer and a figure first, tables folded, the command last.

    The answer is the text of comments.md in the page's folder, up to its first heading. The rest
    of that file follows behind the first figure.
    """
    comments = path.with_name("comments.md")
    words = comments.read_text(encoding="utf-8").strip() if comments.exists() else ""
    answer, heading, rest = words.partition("\n## ")
    parts = [f"# {title}", answer.strip(), *pictures[:1], f"{heading}{rest}".strip()]
    parts += ["## More figures", *pictures[1:]] if pictures[1:] else []
    parts += ["## Tables", *(sheet.markdown() for sheet in sheets), "## How it was run", about]
    write(path, "\n\n".join(part for part in parts if part) + "\n")


def rewrite_page(path: Path, pictures: list[str]) -> None:
    """Writes a page again with its own title, tables and command, and today's comments.md."""
    page = path.read_text(encoding="utf-8")
    title = page.partition("\n")[0].removeprefix("# ")
    write_page(path, title, about_of(path), read_sheets(page), pictures)


def about_of(path: Path) -> str:
    """Returns the paragraph of a page that has its command and versions."""
    paragraphs = path.read_text(encoding="utf-8").split("\n\n")
    command = re.compile(r"(Command: )?`[^`]*python ")
    return next(part for part in reversed(paragraphs) if command.match(part)).strip()


def write(path: Path, text: str) -> None:
    """Writes a file under another name and renames it, so that no file is ever half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
