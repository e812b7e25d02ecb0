"""The commands about cells and about this machine: what they take, find and print."""

import argparse
import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from keras_gated.spec.describe import (
    count_flops,
    count_parameters,
    describe,
    diff,
    equations,
    units_for_budget,
)
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import lower
from keras_gated.spec.presets import Preset, presets

BACKENDS = "tensorflow", "jax", "torch"


@dataclass(frozen=True)
class Result:
    """What a command found.

    Attributes:
        report: what is printed: its str(), or with --json its fields.
        passed: bool.
    """

    report: Any
    passed: bool = True


def command(commands, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    """The parser of a command, with what all commands take."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object and no more")
    return parser


def add_to(commands) -> None:
    """Adds the parsers of all commands of this module."""
    for add in (_list_parser, _show_parser, _diff_parser, _budget_parser, _doctor_parser):
        add(commands)


def natural(text: str) -> int:
    """Reads a number > 0."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


natural.__name__ = "number > 0"  # argparse names it where it fails


def add_sizes(parser: argparse.ArgumentParser, default: int | None) -> None:
    """Adds the sizes of a cell; without a default they may be left out."""
    unless = f"; {default} unless given" if default else ", for the counts"
    parser.add_argument(
        "--inputs", type=natural, default=default, metavar="M", help=f"features of x{unless}"
    )
    parser.add_argument(
        "--units", type=natural, default=default, metavar="N", help=f"size of the state{unless}"
    )


# list and show ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What is known of a cell; counts are None without sizes."""

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


def _facts(known: Preset, inputs: int | None, units: int | None) -> Facts:
    form = resolve(known.spec)
    parameters, flops = _counts(known.name, inputs, units)
    return Facts(
        known.name,
        known.title,
        known.family,
        form.states,
        lower(form).operator or "Scan",
        parameters,
        flops,
        known.paper if known.confirmed else f"{known.paper} (formula recalled)",
        known.notes,
        equations(known.name),
        describe(known.name, input_dim=inputs, units=units),
    )


def _counts(name: str, inputs: int | None, units: int | None) -> tuple[int | None, int | None]:
    if inputs is None or units is None:
        return None, None
    return count_parameters(name, inputs, units), count_flops(name, inputs, units)


@dataclass(frozen=True)
class Listing:
    """Cells and the sizes at which they are counted."""

    inputs: int
    units: int
    cells: tuple[Facts, ...]

    def __str__(self) -> str:
        title = f"weights and FLOPs of a time step with {self.inputs} inputs, {self.units} units"
        table = Table("name", "cell", "family", "states", title=title)
        for head in ("weights", "FLOPs"):
            table.add_column(head, justify="right")
        table.add_column("ONNX")
        for cell in self.cells:
            counts = (f"{n:,}" if n else "-" for n in (cell.parameters, cell.flops))
            states = ", ".join(cell.states)
            table.add_row(cell.name, cell.title, cell.family, states, *counts, cell.onnx)
        return as_text(table)


def as_text(table: Table) -> str:
    """Returns a table as it is printed, as wide as the terminal."""
    console = Console(width=None if Console().is_terminal else 140)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def _list_parser(commands) -> None:
    parser = command(commands, "list", _list, "List the named cells.")
    families = list(dict.fromkeys(known.family for known in presets.values()))
    parser.add_argument("--family", choices=families, help="those of one group")
    parser.add_argument("--states", type=natural, metavar="K", help="those with K states")
    parser.add_argument("--parameters", type=natural, metavar="P", help="P weights at most")
    add_sizes(parser, default=64)


def _list(options) -> Result:
    cells = (_listed(known, options.inputs, options.units) for known in presets.values())
    found = tuple(
        cell
        for cell in cells
        if options.family in (None, cell.family)
        and options.states in (None, len(cell.states))
        and (options.parameters is None or _fits(cell, options.parameters))
    )
    return Result(Listing(options.inputs, options.units, found))


def _listed(known: Preset, inputs: int, units: int) -> Facts:
    """Without counts where the cell admits no such sizes."""
    try:
        return _facts(known, inputs, units)
    except ValueError:
        return _facts(known, None, None)


def _fits(cell: Facts, parameters: int) -> bool:
    return cell.parameters is not None and cell.parameters <= parameters


def _show_parser(commands) -> None:
    text = "Show a cell: equations, weights, counts, ONNX operator, paper, disagreements."
    parser = command(commands, "show", _show, text)
    parser.add_argument("name", metavar="NAME")
    add_sizes(parser, default=None)


def _show(options) -> Result:
    return Result(_facts(presets[options.name], options.inputs, options.units))


# diff and budget --------------------------------------------------------------------------------


def _diff_parser(commands) -> None:
    parser = command(commands, "diff", _diff, "Show what one cell has that the other lacks.")
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")


def _diff(options) -> Result:
    return Result(diff(options.first, options.second))


@dataclass(frozen=True)
class Budget:
    """The units that a number of weights allows."""

    name: str
    inputs: int
    units: int
    parameters: int

    def __str__(self) -> str:
        return (
            f"{self.units} units of {self.name} with {self.inputs} inputs: "
            f"{self.parameters:,} weights"
        )


def _budget_parser(commands) -> None:
    text = "Tell how many units a number of weights allows."
    parser = command(commands, "budget", _budget, text)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--parameters", type=natural, required=True, metavar="P")
    parser.add_argument("--inputs", type=natural, required=True, metavar="M")


def _budget(options) -> Result:
    units = units_for_budget(options.name, options.inputs, options.parameters)
    counted = count_parameters(options.name, options.inputs, units)
    return Result(Budget(options.name, options.inputs, units, counted))


# doctor -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Package:
    """A package that keras_gated needs or can use.

    Attributes:
        name: of the package.
        installed: its version, or None.
        wanted: the versions that are admitted.
        extra: the extras that bring it; empty if it is always needed.
        fits: bool. None that is not installed and of an extra fits too.
    """

    name: str
    installed: str | None
    wanted: str
    extra: str
    fits: bool


@dataclass(frozen=True)
class Health:
    """What is installed here, and whether it goes together."""

    python: str
    machine: str
    packages: tuple[Package, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        table = Table("package", "installed", "wanted", "for", title=f"Python {self.python}")
        for package in self.packages:
            installed = package.installed or "-"
            style = None if package.fits else "red"
            table.add_row(package.name, installed, package.wanted, package.extra, style=style)
        found = "\n".join(self.problems) or "Nothing clashes."
        return f"{as_text(table)}\n{self.machine}\n{found}"


def _doctor_parser(commands) -> None:
    text = "Tell what is installed here, what is missing for what, and what clashes."
    command(commands, "doctor", _doctor, text)


def _doctor(_) -> Result:
    packages = tuple(_packages())
    problems = [
        f"{p.name} {p.installed or 'is missing'}: keras_gated needs {p.name}{p.wanted}"
        + (f" for [{p.extra}]" if p.extra else "")
        for p in packages
        if not p.fits
    ]
    if not any(importlib.util.find_spec(name) for name in BACKENDS):
        problems.append(
            "Keras has no backend here that trains: install one of keras-gated[tensorflow], "
            "keras-gated[jax], keras-gated[torch]."
        )
    machine = f"{platform.system()} {platform.machine()}; GPUs: {_gpus()}"
    health = Health(platform.python_version(), machine, packages, tuple(problems))
    return Result(health, passed=not problems)


def _packages():
    """What the package's own metadata names, each with the extras that it is for."""
    from packaging.requirements import Requirement

    extras: dict[tuple[str, str], list[str]] = {}
    for text in importlib.metadata.requires("keras-gated") or ():
        wanted = Requirement(text)
        extra = _extra(wanted)
        if wanted.name != "keras-gated" and extra not in ("test", "dev", "docs"):
            extras.setdefault((wanted.name, str(wanted.specifier)), []).append(extra)
    for (name, wanted), of in extras.items():
        installed, needed = _version(name), "" in of
        admitted = Requirement(f"{name}{wanted}").specifier
        fits = admitted.contains(installed, prereleases=True) if installed else not needed
        yield Package(name, installed, wanted, ", ".join(filter(None, of)), fits)


def _extra(wanted) -> str:
    """The extra in a marker such as `extra == "onnx"`; empty where there is none."""
    return str(wanted.marker).rpartition("extra == ")[2].strip('"') if wanted.marker else ""


def _version(name: str) -> str | None:
    """Of the package, or of one that is known to stand in for it."""
    for one in (name, f"{name}-cpu", f"{name}-gpu"):
        try:
            return importlib.metadata.version(one)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _gpus() -> str:
    """What NVIDIA's own program tells."""
    if not (program := shutil.which("nvidia-smi")):
        return "none seen (no nvidia-smi)"
    try:
        told = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not known: {error}"
    found = "; ".join(told.stdout.splitlines())
    return found if told.returncode == 0 and found else f"none: {told.stderr or found}".strip()
