"""The commands export and check, on a saved Keras model and an ONNX file."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from keras_gated.cli.arguments import input_signature, lowering, model_input, runtimes
from keras_gated.cli.command import Result, add_command, add_number_option
from keras_gated.cli.data_files import read_arrays
from keras_gated.cli.import_keras import import_keras_for_export
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.runtimes import RUNTIMES
from keras_gated.onnx.tracing.native_or_scan import LOWERINGS

TOLERANCE = 1e-5  # as in check_onnx, which cannot be imported without Keras; a test compares them


def add_model_commands(commands) -> None:
    """Adds the commands of this module."""
    _add_export(commands)
    _add_check(commands)


def add_model_file(parser: argparse.ArgumentParser) -> None:
    """Adds the file of a saved model, and the modules that its layers need."""
    parser.add_argument("model", type=Path, metavar="MODEL.keras")
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        dest="modules",
        metavar="NAME",
        help="a module that registers custom layers, from the current folder or installed; may be "
        "repeated",
    )


def _add_model_command(
    commands, name: str, run: Callable[[argparse.Namespace], Result], text: str, more: str = ""
) -> argparse.ArgumentParser:
    """Adds a command that takes a saved model and an ONNX file; returns its parser."""
    parser = add_command(commands, name, run, text, more)
    add_model_file(parser)
    parser.add_argument("path", type=Path, metavar="OUT.onnx")
    parser.add_argument(
        "--input",
        type=model_input,
        action="append",
        default=[],
        dest="inputs",
        metavar="SHAPE",
        help="an input of the model, if the file does not say which inputs it takes, e.g. "
        "None,None,88:float32 (None: any size); [KEY=]SHAPE[:DTYPE[:NAME]], once for each input, "
        "with KEY if the model takes a dictionary",
    )
    return parser


def _add_runtimes(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--runtimes",
        type=runtimes,
        default=("onnxruntime",),
        metavar="NAME,...",
        help=f"runtimes {text}; of {', '.join(RUNTIMES)} (default: onnxruntime)",
    )


def _load(options: argparse.Namespace) -> tuple[Any, Any]:
    """Returns the model, and the signature of its inputs from --input."""
    check_model_file(options)
    import_keras_for_export()
    try:
        signature = input_signature(options.inputs)
    except argparse.ArgumentTypeError as error:
        options.usage_error(f"argument --input: {error}")
    return load_model_file(options), signature


def check_model_file(options: argparse.Namespace) -> None:
    """Raises an ExportError if there is no file, before Keras is imported."""
    if not options.model.is_file():
        raise ExportError(
            f"There is no file {os.fspath(options.model)!r}. Write it with model.save(...)."
        )


def load_model_file(options: argparse.Namespace, compiled: bool = False) -> Any:
    """Returns the saved model, when Keras is imported.

    Args:
        options: of the command line.
        compiled: bool. Whether to compile it as it was when it was saved.
    """
    from keras_gated.onnx.subprocess_export import import_modules, load_model

    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    import_modules(options.modules)
    try:
        return load_model(options.model, compiled=compiled)
    except ExportError as error:
        if "safe_mode" in str(error):  # Keras's advice is an argument, which the shell has not
            raise ExportError(_holds_code(options.model)) from error
        raise


def _holds_code(file: Path) -> str:
    return (
        f"The file {os.fspath(file)!r} holds Python code (a Lambda layer with a lambda), which the "
        "command line does not run: code in a file from others could do anything. If you trust the "
        f"file, use Python: model = keras.saving.load_model({os.fspath(file)!r}, safe_mode=False), "
        "then keras_gated.export_onnx(model, ...). Or put the function in a module, register it "
        "with keras.saving.register_keras_serializable, build the Lambda layer with it, save the "
        "model again and name the module with --module."
    )


# export -----------------------------------------------------------------------------------------


def _add_export(commands) -> None:
    text = "Write a Keras model to an ONNX file, and compare the file with the model."
    parser = _add_model_command(commands, "export", _export, text)
    kind = parser.add_mutually_exclusive_group()  # a stream's batch stays open
    kind.add_argument(
        "--streaming", action="store_true", help="make the states inputs and outputs of the file"
    )
    kind.add_argument("--static", action="store_true", help="fix the batch size to 1")
    parser.add_argument("--int8", action="store_true", help="quantise to int8")
    parser.add_argument(
        "--lowering",
        type=lowering,
        metavar="KIND",
        help=f"one of {', '.join(LOWERINGS)}, or LAYER=KIND,... (default: auto)",
    )
    _add_runtimes(parser, "in which the file must be right; it runs in those that are installed")
    text = "the batch size at which the file will mostly run"
    add_number_option(parser, "--expected-batch", "N", text, 1, int)
    add_number_option(parser, "--opset", "N", "version of the ONNX operators", 17, int)
    parser.add_argument(
        "--no-verify",
        dest="verify",
        action="store_false",
        help="do not compare the file with the model; with --int8 the file is still compared with "
        "the float32 file",
    )


def _export(options: argparse.Namespace) -> Result:
    model, signature = _load(options)
    names = ("opset", "expected_batch", "verify")
    arguments = {name: getattr(options, name) for name in names} | {"input_signature": signature}
    arguments["runtimes"] = options.runtimes
    if options.int8:
        return Result(_export_int8(options, model, arguments))
    return Result(_export_float32(options, model, options.path, arguments))


def _export_float32(options: argparse.Namespace, model: Any, path: Path, arguments: dict) -> Any:
    from keras_gated.onnx.export import export_onnx
    from keras_gated.onnx.export_streaming import export_streaming

    arguments = {"lowering": options.lowering or "auto"} | arguments
    if options.streaming:
        return export_streaming(model, path, **arguments)
    return export_onnx(model, path, dynamic=not options.static, **arguments)


def _export_int8(options: argparse.Namespace, model: Any, arguments: dict) -> Any:
    from keras_gated.onnx.quantize import int8_lowering, quantize_onnx
    from keras_gated.onnx.runtimes import check_runtimes

    if not (options.streaming or options.lowering or options.static):
        return quantize_onnx(model, options.path, **arguments)
    runtimes = check_runtimes(options.runtimes)
    arguments = {"lowering": options.lowering or int8_lowering(model, runtimes)} | arguments
    with TemporaryDirectory(prefix="keras_gated_") as folder:
        float32_file = Path(folder) / "float32.onnx"
        _export_float32(options, model, float32_file, arguments)
        return quantize_onnx(float32_file, options.path)


# check ------------------------------------------------------------------------------------------


def _add_check(commands) -> None:
    text = "Compare an ONNX file with the Keras model that it was exported from."
    more = (
        "They are compared at several shapes, or, if the file was exported with --streaming, over "
        "a whole sequence and in chunks."
    )
    parser = _add_model_command(commands, "check", _check, text, more)
    text = "the largest difference allowed, |difference| / max(1, |y|)"
    add_number_option(parser, "--tolerance", "X", text, TOLERANCE, float)
    add_number_option(parser, "--seed", "N", "of the random inputs", 0, int)
    _add_runtimes(parser, "in which to run the file; each must be installed")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="compare on these inputs instead of on random ones: an .npy file with the model's one "
        "input, or an .npz file with an array for each input, under its name",
    )


def _check(options: argparse.Namespace) -> Result:
    inputs = None if options.data is None else read_arrays(options.data, "--data")
    model, signature = _load(options)
    from keras_gated.onnx.verify.check import check_onnx

    report = check_onnx(
        model,
        options.path,
        input_signature=signature,
        inputs=inputs,
        runtimes=options.runtimes,
        tolerance=options.tolerance,
        seed=options.seed,
    )
    return Result(report, report.passed)
