"""The command line: keras-gated COMMAND. A command is a function and the parser that names it.

Those on models and ONNX files stand here, those on cells and this machine in commands.py, what
measures time in bench.py.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from keras_gated.cli.arguments import input_of_model, lowering, signature
from keras_gated.cli.bench import bench_parser
from keras_gated.cli.cells import Result, add_to, command
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.quantize import int8_lowering
from keras_gated.onnx.report import as_json
from keras_gated.onnx.subprocess_export import import_modules, load_model
from keras_gated.onnx.tracing.choice import LOWERINGS
from keras_gated.onnx.verify.differences import TOLERANCE

PASSED, FAILED = 0, 1  # argparse itself ends with 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: of the command line, without the program's name; None takes sys.argv.

    Returns:
        The exit status: 0, or 1 if something failed or differs.

    Raises:
        SystemExit: with status 2 if the arguments are wrong.
    """
    options = _parser().parse_args(arguments)
    try:
        with redirect_stdout(sys.stderr):  # what libraries print is no part of the answer
            result = options.run(options)
    except Exception as error:  # noqa: BLE001 - a user's layer may raise anything
        print(f"keras-gated: error: {_paragraph(error)}", file=sys.stderr)
        if options.json:
            print(json.dumps({"error": _text(error)}))
        return FAILED
    print(json.dumps(as_json(result.report)) if options.json else result.report)
    return PASSED if result.passed else FAILED


def _paragraph(error: Exception) -> str:
    ours = isinstance(error, ExportError | ValueError | ImportError | OSError)
    return " ".join(f"{'' if ours else type(error).__name__ + ': '}{_text(error)}".split())


def _text(error: Exception) -> str:
    """What an error says, with the option that stands for the argument that it names."""
    if "input_signature" not in str(error):
        return str(error)
    return f"{error} On the command line: --input None,None,88:float32, once for each input."


def _parser() -> argparse.ArgumentParser:
    text = "Gated recurrent cells, Keras models with them, and their ONNX files."
    parser = argparse.ArgumentParser(prog="keras-gated", description=text)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_to(commands)
    for add in (_export_parser, _check_parser, bench_parser):
        add(commands)
    return parser


def _model_command(commands, name: str, run, text: str) -> argparse.ArgumentParser:
    """The parser of a command on a saved model and an ONNX file."""
    parser = command(commands, name, run, text)
    parser.add_argument("model", type=Path, metavar="MODEL.keras")
    parser.add_argument("path", type=Path, metavar="OUT.onnx")
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        dest="modules",
        metavar="NAME",
        help="a module that registers custom layers; may be repeated; "
        "looked for in the current folder too",
    )
    parser.add_argument(
        "--input",
        type=input_of_model,
        action="append",
        default=[],
        dest="inputs",
        metavar="SHAPE",
        help="an input of a model that does not know its own, e.g. None,None,88:float32, None "
        "for an open axis; [KEY=]SHAPE[:DTYPE[:NAME]], once for each input, with KEY where the "
        "model takes a dictionary",
    )
    return parser


def _loaded(options):
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    import_modules(options.modules)
    try:
        return load_model(options.model)
    except ExportError as error:
        if "safe_mode" in str(error):  # Keras's advice, which nobody can follow from a shell
            raise ExportError(_holds_code(options.model)) from error
        raise


def _holds_code(file: Path) -> str:
    return (
        f"The file {os.fspath(file)!r} holds Python code (a Lambda layer with a lambda), which the "
        "command line does not run: in a file from others it could do anything. If you trust it, "
        f"work from Python: model = keras.saving.load_model({os.fspath(file)!r}, safe_mode=False), "
        "then keras_gated.export_onnx(model, ...) or what else you need. Or put a function that is "
        "registered with keras.saving.register_keras_serializable into a module, build the Lambda "
        "layer with it, save the model anew and name the module with --module."
    )


def _public(name: str):
    """A public function of the package, imported as late as it allows."""
    return getattr(import_module("keras_gated"), name)


# export -----------------------------------------------------------------------------------------


def _export_parser(commands) -> None:
    text = "Write a Keras model to an ONNX file and compare the two."
    parser = _model_command(commands, "export", _export, text)
    kind = parser.add_mutually_exclusive_group()  # a stream's batch stays open
    kind.add_argument(
        "--streaming", action="store_true", help="with states as named inputs and outputs"
    )
    kind.add_argument("--static", action="store_true", help="fix the batch at 1")
    parser.add_argument("--int8", action="store_true", help="quantised to int8")
    parser.add_argument(
        "--lowering",
        type=lowering,
        metavar="KIND",
        help=f"one of {', '.join(LOWERINGS)}, or LAYER=KIND,...; auto unless given",
    )
    parser.add_argument(
        "--expected-batch",
        type=int,
        default=1,
        metavar="N",
        help="the batch that the file will mostly run at; 1 unless given",
    )
    parser.add_argument(
        "--opset",
        type=int,
        default=17,
        metavar="N",
        help="ONNX operators' version; 17 unless given",
    )
    parser.add_argument(
        "--no-verify",
        dest="verify",
        action="store_false",
        help="do not compare the file with the model; an int8 file is compared with the float32 "
        "file even so",
    )


def _export(options) -> Result:
    model = _loaded(options)
    given = {
        "opset": options.opset,
        "expected_batch": options.expected_batch,
        "verify": options.verify,
        "input_signature": signature(options.inputs),
    }
    if not options.int8:
        given["lowering"] = options.lowering or "auto"
        return Result(_exported(options, model, options.path, **given))
    quantize = _public("quantize_onnx")
    if not (options.streaming or options.lowering or options.static):
        return Result(quantize(model, options.path, **given))
    given["lowering"] = options.lowering or int8_lowering(model)
    with TemporaryDirectory(prefix="keras_gated_") as folder:
        draft = Path(folder) / "float32.onnx"
        _exported(options, model, draft, **given)
        return Result(quantize(draft, options.path))


def _exported(options, model, path: Path, **given):
    if options.streaming:
        return _public("export_streaming")(model, path, **given)
    return _public("export_onnx")(model, path, dynamic=not options.static, **given)


# check ------------------------------------------------------------------------------------------


def _check_parser(commands) -> None:
    text = (
        "Compare an ONNX file with the Keras model that it was exported from: at several shapes, "
        "or, if it was exported with --streaming, over a whole sequence and in chunks."
    )
    parser = _model_command(commands, "check", _check, text)
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="X",
        help=f"on |difference| / max(1, |y|); {TOLERANCE:.0e} unless given",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random inputs")


def _check(options) -> Result:
    report = _public("check_onnx")(
        _loaded(options),
        options.path,
        input_signature=signature(options.inputs),
        tolerance=options.tolerance,
        seed=options.seed,
    )
    return Result(report, report.passed)


if __name__ == "__main__":
    sys.exit(main())
