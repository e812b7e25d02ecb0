"""What all commands share: a parser, a result and the arguments for sizes."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 140  # of a table that is written to a file or a pipe


@dataclass(frozen=True)
class Result:
    """What a command returns.

    Attributes:
        report: printed as text, or with --json its fields as one JSON object.
        passed: bool. False makes the exit status 1.
        hint: lines after the text, e.g. a command that may help more. Not part of the JSON.
        data: printed with --json in place of the report, where the report has more than JSON can
            hold.
    """

    report: Any
    passed: bool = True
    hint: str = ""
    data: Any = None

    @property
    def text(self) -> str:
        """The report as text, with the hint."""
        return f"{self.report}\n\n{self.hint}" if self.hint else str(self.report)

    @property
    def json_value(self) -> Any:
        """What --json prints."""
        return self.report if self.data is None else self.data


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], Result], text: str, more: str = ""
) -> argparse.ArgumentParser:
    """Adds a command and returns its parser.

    Args:
        commands: what `ArgumentParser.add_subparsers` returned.
        name: of the command.
        run: does what the command says; it takes the parsed options.
        text: what it does, in one sentence.
        more: further sentences, which only the command's own help shows.
    """
    parser = commands.add_parser(name, help=text, description=f"{text} {more}")
    # `usage_error` ends with status 2, for what argparse itself cannot check.
    parser.set_defaults(run=run, usage_error=parser.error)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def add_preset(parser: argparse.ArgumentParser, name: str = "name", **options: Any) -> None:
    """Adds an argument that takes the name of a preset."""
    parser.add_argument(name, help="a preset: keras-gated list shows all", **options)


def natural(text: str) -> int:
    """Reads a number > 0."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


natural.__name__ = "number > 0"  # argparse shows it in its error message


def add_number_option(
    parser: argparse.ArgumentParser,
    name: str,
    metavar: str,
    text: str,
    default: float | None = None,
    kind: Callable[[str], float] = natural,
) -> None:
    """Adds an option that takes one number. `text` is its help, which names the default as well."""
    text = text if default is None else f"{text} (default: {default})"
    parser.add_argument(name, type=kind, default=default, metavar=metavar, help=text)


def add_input_dim(parser: argparse.ArgumentParser, text: str, default: int | None = None) -> None:
    """Adds --input-dim, the number of input features."""
    add_number_option(parser, "--input-dim", "M", text, default)
    older_names, hidden = ("--inputs", "--input"), argparse.SUPPRESS
    parser.add_argument(*older_names, dest="input_dim", type=natural, default=hidden, help=hidden)


def add_sizes(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    """Adds --input-dim and --units; without a default they may be left out."""
    more = "" if default else ", for the counts"
    add_input_dim(parser, f"input features{more}", default)
    add_number_option(parser, "--units", "N", f"size of the state{more}", default)


def add_numbers(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Lets a command take the options `names` as plain numbers too, in that order."""
    for name in names:
        metavar, text = name.upper(), f"the number that --{name.replace('_', '-')} takes"
        parser.add_argument(f"{name}_number", nargs="?", type=natural, metavar=metavar, help=text)


def read_numbers(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Returns the values of the options `names`, whichever way they were given; None if missing.

    Plain numbers are for the options that were not given by name.
    """
    values = {name: getattr(options, name) for name in names}
    numbers = [getattr(options, f"{name}_number") for name in names]
    numbers = [number for number in numbers if number is not None]
    missing = [name for name, value in values.items() if value is None]
    if len(numbers) > len(missing):
        given = {name: value for name, value in values.items() if value is not None}
        options.usage_error(
            f"the numbers must be {' and '.join(names)}. Received: {', '.join(map(str, numbers))} "
            f"and also {', '.join(f'{name}={value}' for name, value in given.items())}"
        )
    return values | dict(zip(missing, numbers, strict=False))


def table_text(table: Table) -> str:
    """Returns a table as text, as wide as the terminal."""
    console = Console(width=None if Console().is_terminal else WIDTH)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")
