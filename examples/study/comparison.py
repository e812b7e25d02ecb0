"""The plan that the scripts share: cells of equal size on the same tasks, with several seeds."""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

import keras_gated as kg
from study import figures, protocol, report, tasks
from study.carry_out import carry_out
from study.identity import data_text, spec_text, surroundings
from study.plugin import add_plugin_option, load_plugin_option
from study.ranks import enough_seeds
from study.results import Results
from study.sheet import Sheet
from study.task import Task
from study.training import Run, draw_rates

SMOKE = {"epochs": 2, "patience": 2, "buckets": 1, "small": 8, "compiled": False}
SEARCH_SEED = 1000  # no other run has it


@dataclass(frozen=True)
class Comparison:
    """Which cells are compared on which tasks, and how.

    Args:
        title: of the page.
        cells: preset -> its label.
        vanilla: the preset with which the others are compared.
        units: (task, preset) -> units.
        settings: task -> settings of its runs, as `Run` has them.
        rates: (task, preset) -> learning rate.
        exponents: natural logarithms of the least and the greatest rate that a search draws.
        data: folder of the tasks that read files.
    """

    title: str
    cells: dict[str, str]
    vanilla: str
    units: dict[tuple[str, str], int]
    settings: dict[str, dict]
    rates: dict[tuple[str, str], float]
    data: Path | None = None
    exponents: tuple[float, float] = (-12.0, -6.0)  # as in the paper

    @classmethod
    def of_equal_size(cls, title: str, options: argparse.Namespace) -> "Comparison":
        """Returns a plan for the cells and tasks of the options, each cell of equal size."""
        widths = {name: tasks.load(name, options.data).input_dim for name in options.tasks}
        cells = list(dict.fromkeys([options.vanilla, *options.cells]))
        pairs = [(task, cell) for task in options.tasks for cell in cells]
        rates = dict.fromkeys(pairs, options.rate or protocol.RATE)
        if options.rate is None:
            rates |= chosen_rates(options.out, protocol.FOUND)
        return cls(
            title,
            {cell: cell for cell in cells},
            options.vanilla,
            {(t, c): kg.units_for_budget(c, widths[t], options.parameters) for t, c in pairs},
            {name: protocol.settings(name) for name in options.tasks},
            rates,
            options.data,
            (np.log(protocol.RATE) - 2.5, np.log(protocol.RATE) + 1.0),
        )

    def small(self) -> "Comparison":
        """Returns a plan of two cells on a few sequences of one task, for a short run."""
        task, settings = next(iter(self.settings.items()))
        cells = dict(list(self.cells.items())[:2])
        return replace(self, cells=cells, settings={task: {**settings, **SMOKE}})

    def run(self, task: str, cell: str, seed: int, **changed) -> Run:
        given = {"learning_rate": self.rates.get((task, cell)), **self.settings[task], **changed}
        loaded = tasks.load(task, self.data, given.get("small"))
        given |= {"spec": spec_text(cell), "source": tasks.source(task, self.data)}
        given |= {"data": data_text(loaded), **surroundings()}
        return Run(task, cell, self.units[task, cell], seed, **given)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(task, cell) for task in self.settings for cell in self.cells]

    def enough_seeds(self) -> int:
        """Returns the least number of seeds with which the rank tests can show a difference."""
        return enough_seeds(len(self.cells) - 1)

    def runs(self, seeds: int) -> list[Run]:
        """Returns all runs. The seeds of a cell follow one another: they share a compiled model."""
        return [self.run(*pair, seed) for pair in self.pairs for seed in range(seeds)]

    def search_runs(self, count: int, epochs: int | None = None) -> list[Run]:
        """Returns a run for each cell, task and drawn rate, by default with half the epochs."""
        rates = draw_rates(count, *self.exponents)
        drawn = [(pair, rate) for pair in self.pairs for rate in rates]
        runs = [self.run(*pair, SEARCH_SEED, learning_rate=rate) for pair, rate in drawn]
        return [replace(run, epochs=epochs or max(1, run.epochs // 2)) for run in runs]

    def tasks(self) -> dict[str, Task]:
        return {
            name: tasks.load(name, self.data, settings.get("small"))
            for name, settings in self.settings.items()
        }


def add_cell_options(parser: argparse.ArgumentParser, cells, vanilla: str, names) -> None:
    """Adds options that choose cells, tasks and sizes; `of_equal_size` reads them.

    The file that --plugin names is loaded here, so that its cells and tasks can be chosen.
    """
    add_plugin_option(parser)
    load_plugin_option()
    presets = {"choices": kg.presets, "metavar": "PRESET"}
    parser.add_argument("--cells", nargs="+", default=cells, **presets)
    parser.add_argument("--vanilla", default=vanilla, **presets)
    parser.add_argument("--tasks", nargs="+", choices=tasks.TASKS, default=names)
    parser.add_argument("--parameters", type=int, default=10_000, help="weights of the cell")
    parser.add_argument("--rate", type=float, help="one learning rate for all cells")
    parser.add_argument("--data", type=Path, help="folder of the tasks that read files")


def search_or_compare(plan: Comparison, options, search_epochs: int | None = None, more=()):
    """Searches for learning rates if `options.search`, else compares the cells."""
    if options.search:
        search(plan, options, options.rate_count, search_epochs)
    else:
        compare(plan, options, more)


def search(plan: Comparison, options, count: int, epochs: int | None = None) -> None:
    """Finds the rate with the best validation score for each task and cell; writes rates.json."""
    folder = options.out
    if options.smoke:
        plan, count, epochs, folder = plan.small(), 2, 2, folder / "smoke"
    results = Results(folder / "search.jsonl")
    runs = plan.search_runs(count, epochs)
    carry_out(runs, results, options, plan.data)
    rows, rates = [], read_rates(folder)
    for (task, cell), group in report.grouped(results.of(runs)).items():
        best, *others = sorted(group, key=lambda result: result["valid"])
        rate = rates.setdefault(task, {})[cell] = best["run"]["learning_rate"]
        second = [
            f"{report.number(r['valid'])} at {r['run']['learning_rate']:g}" for r in others[:1]
        ]
        rows.append([task, plan.cells[cell], f"{rate:g}", report.number(best["valid"]), *second])
    heads = ["set", "cell", "rate", "valid", "second best"]
    console = Console()
    console.print(Sheet(f"best of {count} rates", heads, rows).rich(console.width))
    report.write(folder / "rates.json", json.dumps(rates, indent=1) + "\n")
    print(f"Rates for the same command without --search: {folder / 'rates.json'}")


def compare(plan: Comparison, options: argparse.Namespace, more=()) -> None:
    """Carries out what is missing, prints the tables, writes page.md and the figures.

    Args:
        plan: what is compared.
        options: as `carry_out.add_options` has them.
        more: further sheets for the page.
    """
    seeds, folder = options.seeds or plan.enough_seeds(), options.out
    if options.smoke:
        plan, seeds, folder = plan.small(), 1, folder / "smoke"
    results = Results(folder / "results.jsonl")
    runs = plan.runs(seeds)
    carry_out(runs, results, options, plan.data)
    found, loaded = results.of(runs), plan.tasks()
    groups = report.grouped(found)
    sheets = [*tables(plan, groups, loaded, seeds), *more]
    console = Console()
    for sheet in sheets:
        console.print(sheet.rich(console.width))
    units = {name: task.unit for name, task in loaded.items()}
    pictures = figures.draw_all(groups, plan.vanilla, plan.cells, units, folder)
    about = report.about(sum(result["seconds"] for result in found), seeds, found)
    report.write_page(folder / "page.md", plan.title, about, sheets, pictures)
    print(f"Tables and figures: {folder / 'page.md'}; for print, a PDF of each figure")


def tables(plan: Comparison, groups: report.Groups, loaded: dict[str, Task], seeds: int) -> list:
    """Returns the tables of a comparison: scores, differences from the vanilla cell, sizes."""
    units = ", ".join(dict.fromkeys(task.unit for task in loaded.values()))
    title = f"{units}; median and range of {seeds} seeds, less is better"
    return [
        report.scores(title, groups, loaded, plan.cells),
        report.significance(groups, plan.vanilla, plan.cells),
        report.sizes(groups, {n: task.input_dim for n, task in loaded.items()}, plan.cells),
    ]


def chosen_rates(folder: Path, found: dict[str, dict[str, float]]) -> dict:
    """Returns (task, preset) -> learning rate: those of `found`, and those of rates.json.

    The file comes from a search and takes precedence.
    """
    both = [*found.items(), *read_rates(folder).items()]
    return {(task, cell): rate for task, rates in both for cell, rate in rates.items()}


def read_rates(folder: Path) -> dict[str, dict[str, float]]:
    """Returns task -> preset -> rate from the folder's rates.json, or {} if there is none."""
    path = folder / "rates.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}
