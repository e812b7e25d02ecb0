"""Draws the figures of a study again, from its file of results alone. Nothing is trained.

The page is written again too, if there is one: with its tables, and with comments.md as it is now.

    python -m study.redraw ../docs/results/ablation_study --vanilla lstm_peephole     # in examples/
    python -m study.redraw FOLDER --vanilla elman --labels elman=tanh gru_chung=GRU

It also reads lines that an older version wrote, which do not say of which specification they are.
"""

import argparse
import json
from pathlib import Path

import study  # noqa: F401 - sets variables before keras is imported
from study import figures, report

UNITS = {"digits": "nats", "vowels": "nats", "adding": "mean squared error"}


def read(path: Path) -> list[dict]:
    """Returns the lines of a file of results that are whole.

    Raises:
        ValueError: if two lines are of one task, cell and seed: it is not known which is meant.
    """
    found = {}
    for text in path.read_text("utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # a kill cut it off
        run = line["run"]
        key = run["task"], run["cell"], run["seed"]
        if key in found:
            raise ValueError(
                "A file of results must have one line for each task, cell and seed, to be drawn. "
                f"Received: two lines of task {key[0]!r}, cell {key[1]!r}, seed {key[2]}. Their "
                "settings differ. Copy the lines that you want to another folder."
            )
        found[key] = line
    return list(found.values())


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="it holds results.jsonl")
    parser.add_argument("--vanilla", required=True, help="cell with which others are compared")
    parser.add_argument("--labels", nargs="+", default=[], metavar="CELL=LABEL", help="in order")
    parser.add_argument("--figures", nargs="+", choices=figures.TEXTS, default=[])
    options = parser.parse_args(arguments)
    found = report.grouped(read(options.folder / "results.jsonl"))
    labels = dict(pair.split("=", 1) for pair in options.labels)
    labels = {cell: labels.get(cell, cell) for cell in [*labels, *(cell for _, cell in found)]}
    groups = {(t, c): found[t, c] for t, _ in found for c in labels if (t, c) in found}
    units = {task: UNITS.get(task.partition("_")[0], "nats per time step") for task, _ in groups}
    given = groups, options.vanilla, labels, units, options.folder
    pictures = figures.draw_all(*given, options.figures)
    page = options.folder / "page.md"
    if page.exists():
        report.rewrite_page(page, pictures)
    print(*([f"Figures and page: {page}"] if page.exists() else pictures), sep="\n")


if __name__ == "__main__":
    main()
