"""Carries out the runs that are not in the file of results yet, and shows the time left."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

from study.engines import ENGINES
from study.results import Results
from study.training import Run

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeLeftColumn(),
)
OLDER = (
    "{} lines of {} do not say of which specification they are: an older version wrote them. They "
    "stay in the file and count for nothing; these runs are done again."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that all scripts share."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results") / Path(sys.argv[0]).stem,
        help="folder to write to; default: results/SCRIPT",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        help="runs of each cell; default: the least with which the Mann-Whitney test, corrected "
        "for the number of cells, can give p < 0.05 (5 for 3 to 7 cells, 6 for 8 to 24)",
    )
    parser.add_argument(
        "--engine", choices=ENGINES, help="where to run; default: cores, with --smoke: here"
    )
    parser.add_argument(
        "--workers", type=int, help="processes of --engine cores; default: one a core"
    )
    parser.add_argument("--address", help="of a running Ray cluster; implies --engine ray")
    parser.add_argument("--smoke", action="store_true", help="few sequences and epochs, no XLA")
    parser.add_argument("--search", action="store_true", help="search for learning rates")
    parser.add_argument(
        "--draws", dest="rate_count", type=int, default=10, help="rates that --search tries"
    )


def carry_out(runs: Sequence[Run], results: Results, options, data: Path | None = None) -> None:
    """Runs what is missing; ends the program with status 1 if a run fails."""
    missing, failed = results.missing(runs), 0
    console = Console(stderr=True)
    if results.unknown:
        console.print(OLDER.format(results.unknown, results.path), highlight=False)
    usual = "here" if options.smoke else "cores"  # processes take long to start
    usual = "ray" if options.address else usual
    engine, data = ENGINES[options.engine or usual], data and data.resolve()
    given = {"workers": options.workers, "address": options.address}
    if plugin := getattr(options, "plugin", None):
        given["plugin"] = plugin.resolve()
    with Progress(*COLUMNS, console=console) as progress:
        bar = progress.add_task("runs", total=len(missing))
        ended = engine(missing, data, **given)
        for run, result in ended:
            label = f"{run.task} {run.cell} seed {run.seed} rate {run.learning_rate:g}"
            if isinstance(result, Exception):
                failed += 1
                console.print(f"[red]{label}: {result!r}", highlight=False)
            else:
                results.add(result)
                console.print(f"{label}: valid {result['valid']:#.4g}", highlight=False)
            progress.advance(bar)
    if failed:
        sys.exit(f"{failed} of {len(missing)} runs failed; the same command runs them again.")
