"""Runs a command of keras-gated: arguments in, report and exit status out."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import version

from keras_gated.cli.bench import add_bench
from keras_gated.cli.cells import add_cell_commands
from keras_gated.cli.doctor import add_doctor
from keras_gated.cli.gates import add_gate_commands
from keras_gated.cli.models import add_model_commands
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.report import as_json

PASSED, FAILED = 0, 1  # argparse itself ends with 2
# Errors whose message says enough without the name of the class.
PLAIN_ERRORS = (ExportError, ValueError, ImportError, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: of the command line, without the program's name; None takes sys.argv.

    Returns:
        The exit status: 0, or 1 if something failed or a file differs from the model.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, 0 after --help.
    """
    options = build_parser().parse_args(arguments)
    try:
        with redirect_stdout(sys.stderr):  # what libraries print is not part of the report
            result = options.run(options)
    except Exception as error:  # noqa: BLE001 - a user's layer may raise anything
        print(f"keras-gated: error: {_one_line(error)}", file=sys.stderr)
        if options.json:
            print(json.dumps({"error": _message(error)}))
        return FAILED
    _print(json.dumps(as_json(result.json_value)) if options.json else result.text)
    return PASSED if result.passed else FAILED


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader, e.g. `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    text = "Gated recurrent cells, Keras models with them, and their ONNX files."
    parser = argparse.ArgumentParser(prog="keras-gated", description=text)
    parser.add_argument("--version", action="version", version=version("keras-gated"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (add_cell_commands, add_doctor, add_model_commands, add_gate_commands, add_bench):
        add(commands)
    return parser


def _one_line(error: Exception) -> str:
    name = "" if isinstance(error, PLAIN_ERRORS) else f"{type(error).__name__}: "
    return " ".join(f"{name}{_message(error)}".split())


def _message(error: Exception) -> str:
    """Returns the message, with the option that stands for the argument that it names."""
    if "input_signature" not in str(error):
        return str(error)
    return f"{error} On the command line: --input None,None,88:float32, once for each input."


if __name__ == "__main__":
    sys.exit(main())
