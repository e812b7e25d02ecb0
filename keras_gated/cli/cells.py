"""The commands list, show, diff and budget. They describe and compare presets, without Keras."""

import argparse
from dataclasses import dataclass, field

from rich.table import Table

from keras_gated.cli.command import (
    Result,
    add_command,
    add_input_dim,
    add_number_option,
    add_numbers,
    add_preset,
    add_sizes,
    read_numbers,
    table_text,
)
from keras_gated.spec import catalogue  # noqa: F401 - fills the presets
from keras_gated.spec.describe import (
    Difference,
    count_flops,
    count_parameters,
    describe,
    diff,
    equations,
    units_for_budget,
)
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import find_native_operator
from keras_gated.spec.preset_lookup import Preset, presets

SIZES = ("input_dim", "units")
BUDGET = ("input_dim", "parameters")
BASELINES = "base"  # the family of the cells that others are variants of


def add_cell_commands(commands) -> None:
    """Adds the commands of this module."""
    for add in (_add_list, _add_show, _add_diff, _add_budget):
        add(commands)


# list and show ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What is known about a preset. Counts are None if the sizes are not given."""

    name: str
    title: str
    family: str
    states: tuple[str, ...]
    onnx: str
    parameters: int | None = None
    flops: int | None = None
    paper: str = ""
    notes: str = ""
    equations: str = ""
    text: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.text


def _facts(preset: Preset, input_dim: int | None, units: int | None) -> Facts:
    form, name = resolve(preset.spec), preset.name
    parameters = flops = None
    if input_dim is not None and units is not None:
        parameters = count_parameters(name, input_dim, units)
        flops = count_flops(name, input_dim, units)
    return Facts(
        name,
        preset.title,
        preset.family,
        form.states,
        find_native_operator(form).operator or "Scan",
        parameters,
        flops,
        preset.paper if preset.confirmed else f"{preset.paper} (formula recalled)",
        preset.notes,
        equations(name),
        describe(name, input_dim=input_dim, units=units),
    )


@dataclass(frozen=True)
class Listing:
    """Presets, and the sizes for which they are counted."""

    inputs: int
    units: int
    cells: tuple[Facts, ...]

    def __str__(self) -> str:
        title = f"weights, and FLOPs of one time step: {self.inputs} inputs, {self.units} units"
        table = Table("name", "cell", "family", "states", title=title)
        for head in ("weights", "FLOPs"):
            table.add_column(head, justify="right")
        table.add_column("ONNX")
        for cell in self.cells:
            counts = (f"{n:,}" if n else "-" for n in (cell.parameters, cell.flops))
            states = ", ".join(cell.states)
            table.add_row(cell.name, cell.title, cell.family, states, *counts, cell.onnx)
        return table_text(table)


def _add_list(commands) -> None:
    parser = add_command(commands, "list", _list, "List the presets, with their sizes.")
    families = list(dict.fromkeys(preset.family for preset in presets.values()))
    parser.add_argument("--family", choices=families, help="only presets of this family")
    add_number_option(parser, "--states", "K", "only cells with K states")
    add_number_option(parser, "--parameters", "P", "only cells with at most P weights")
    add_sizes(parser, default=64)


def _list(options: argparse.Namespace) -> Result:
    cells = (_facts_if_it_fits(p, options.input_dim, options.units) for p in presets.values())
    chosen = tuple(cell for cell in cells if _passes(cell, options))
    return Result(Listing(options.input_dim, options.units, chosen))


def _facts_if_it_fits(preset: Preset, input_dim: int, units: int) -> Facts:
    """Returns the facts, without counts if the cell cannot have these sizes."""
    try:
        return _facts(preset, input_dim, units)
    except ValueError:
        return _facts(preset, None, None)


def _passes(cell: Facts, options: argparse.Namespace) -> bool:
    """Whether a cell passes the filters of the command `list`."""
    if options.family not in (None, cell.family):
        return False
    if options.states not in (None, len(cell.states)):
        return False
    if options.parameters is None:
        return True
    return cell.parameters is not None and cell.parameters <= options.parameters


def _add_show(commands) -> None:
    text = "Show a preset: equations, weights, counts, ONNX operator, paper, notes."
    parser = add_command(commands, "show", _show, text)
    add_preset(parser, metavar="NAME")
    add_numbers(parser, SIZES)
    add_sizes(parser)


def _show(options: argparse.Namespace) -> Result:
    return Result(_facts(presets[options.name], **read_numbers(options, SIZES)))


# diff -------------------------------------------------------------------------------------------


def _add_diff(commands) -> None:
    text = "Compare two presets: the states, weights and equations that only one of them has."
    parser = add_command(commands, "diff", _diff, text)
    add_preset(parser, "first", metavar="A")
    add_preset(parser, "second", metavar="B")


def _diff(options: argparse.Namespace) -> Result:
    names = options.first, options.second
    return Result(diff(*names), hint=_nearer_baseline(*names))


def _nearer_baseline(first: str, second: str) -> str:
    """Returns lines that name a nearer baseline to compare a variant with; empty if none is.

    Greff's variants, for one, have peepholes: compared with "lstm" they show little else.
    """
    pair = {presets[name].family == BASELINES: name for name in (first, second)}
    if len(pair) < 2:  # two baselines or two variants
        return ""
    baseline, variant = pair[True], pair[False]
    names = (name for name, preset in presets.items() if preset.family == BASELINES)
    differences = {name: diff(name, variant) for name in names}
    nearest = min(differences, key=lambda name: _count(differences[name]))
    near, far = differences[nearest], differences[baseline]
    if _count(near) == _count(far):
        return ""
    counts = f"{_count(near)} differences, not {_count(far)}"
    shared = [x for x in far.only_second if x not in near.only_second and "=" not in x]
    return "\n".join(
        [
            f"{variant} is nearer to {nearest} than to {baseline}: {counts}.",
            *([f"{variant} and {nearest} have: {', '.join(shared)}."] if shared else []),
            f"Compare them with: keras-gated diff {nearest} {variant}",
        ]
    )


def _count(difference: Difference) -> int:
    return len(difference.only_first) + len(difference.only_second)


# budget -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """The largest cell within a number of weights."""

    name: str
    inputs: int
    units: int
    parameters: int

    def __str__(self) -> str:
        return (
            f"{self.units} units of {self.name} with {self.inputs} inputs: "
            f"{self.parameters:,} weights"
        )


def _add_budget(commands) -> None:
    text = "Find the largest number of units with which a preset has at most P weights."
    parser = add_command(commands, "budget", _budget, text)
    add_preset(parser, metavar="NAME")
    add_numbers(parser, BUDGET)
    add_input_dim(parser, "input features")
    add_number_option(parser, "--parameters", "P", "weights at most")


def _budget(options: argparse.Namespace) -> Result:
    sizes = read_numbers(options, BUDGET)
    if missing := [name for name, value in sizes.items() if value is None]:
        options.usage_error(f"the following arguments are required: {', '.join(missing)}")
    units = units_for_budget(options.name, **sizes)
    parameters = count_parameters(options.name, sizes["input_dim"], units)
    return Result(Budget(options.name, sizes["input_dim"], units, parameters))
