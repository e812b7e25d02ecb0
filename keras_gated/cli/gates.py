"""The commands gates and slim: what a trained model's gates do, and the model without some."""

import argparse
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keras_gated.cli.command import Result, add_command, add_number_option
from keras_gated.cli.data_files import read_samples
from keras_gated.cli.import_keras import import_keras
from keras_gated.cli.models import add_model_file, check_model_file, load_model_file
from keras_gated.spec.config import to_json_value

DATA = (
    "an .npz file with the model's input as x (several: each under its name), the targets as y, "
    "and sample_weight if there are weights"
)
MODEL, FIGURE = "slim.keras", "path.png"  # files that slim writes
# As in kg.slim, which cannot be imported without Keras; a test compares them.
DEFAULTS = {"tolerance": 0.01, "epochs": 10, "seeds": 1, "target": "weights"}
DEFAULTS |= {"monitor": "val_loss", "mode": "auto"}


def add_gate_commands(commands) -> None:
    """Adds the commands of this module."""
    _add_gates(commands)
    _add_slim(commands)


def _load(options: argparse.Namespace) -> Any:
    """Returns the compiled model."""
    check_model_file(options)
    import_keras()
    return load_model_file(options, compiled=True)


def _as_json(changes: Mapping) -> dict[str, dict[str, Any]]:
    """Changes as JSON can hold them; `reduce_gates` takes these too."""
    return {layer: {k: to_json_value(v) for k, v in new.items()} for layer, new in changes.items()}


# gates ------------------------------------------------------------------------------------------


def _add_gates(commands) -> None:
    text = "Show what each gate of a trained model does: the loss with a smaller one, or without."
    more = (
        "Nothing is trained. The model must have been compiled with a loss before it was saved. It "
        "runs on the backend that Keras is set to (KERAS_BACKEND)."
    )
    parser = add_command(commands, "gates", _gates, text, more)
    add_model_file(parser)
    parser.add_argument("--data", type=Path, metavar="FILE", required=True, help=DATA)
    text = "also draw the report, into a file such as gates.png"
    parser.add_argument("--plot", type=Path, metavar="FILE", help=text)
    text = "of the draw of the time steps on which gates are fitted"
    add_number_option(parser, "--seed", "N", text, 0, int)


def _gates(options: argparse.Namespace) -> Result:
    model = _load(options)
    from keras_gated.inspection.plots import new_figure
    from keras_gated.reduction.gate_report import gate_report

    if options.plot:
        new_figure()  # before the work, an error if matplotlib is missing
        _check_folder(options.plot)
    samples = read_samples(options.data, "--data", model)
    progress = int(sys.stderr.isatty())  # main lets stdout go there
    data = dict(zip(("x", "y", "sample_weight"), samples, strict=False))
    report = gate_report(model, **data, seed=options.seed, verbose=progress)
    if options.plot:
        report.plot().savefig(options.plot)
    values = {"loss": report.loss, "parameters": report.parameters}
    values["rows"] = list(map(_row, report.rows))
    return Result(report, hint=_next_step(options), data=values)


def _row(row: Any) -> dict[str, Any]:
    names = ("layer", "part", "becomes", "loss", "increase", "weights", "flops", "bytes")
    values = {name: getattr(row, name) for name in (*names, "explained", "operator", "fitted")}
    return values | {"changes": _as_json(row.changes)}


def _next_step(options: argparse.Namespace) -> str:
    return (
        "The first line saves most weights for what it costs. To take such steps and train in "
        f"between:\nkeras-gated slim {options.model} --train FILE --validation FILE --out FOLDER"
    )


def _check_folder(file: Path) -> None:
    if not file.parent.is_dir():
        raise ValueError(
            "Argument --plot must name a file in a folder that exists. Received: "
            f"{str(file)!r}. Make the folder {str(file.parent)!r}."
        )


# slim -------------------------------------------------------------------------------------------


def _add_slim(commands) -> None:
    text = "Take away the gates and units that a trained model does not need."
    more = (
        "Each step is trained and kept if the monitored value stays within the tolerance. Writes "
        f"{MODEL}, the record of the search and {FIGURE} into the folder; the same command goes on "
        "where it was stopped. The model must have been compiled before it was saved. It runs on "
        "the backend that Keras is set to (KERAS_BACKEND)."
    )
    parser = add_command(commands, "slim", _slim, text, more)
    add_model_file(parser)
    parser.add_argument(
        "--train", type=Path, metavar="FILE", required=True, help=f"to train on: {DATA}"
    )
    text = "to judge the steps on, with arrays of the same names"
    parser.add_argument("--validation", type=Path, metavar="FILE", required=True, help=text)
    text = "where to write; made if it does not exist"
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help=text)
    text = "the share by which the monitored value may become worse"
    add_number_option(parser, "--tolerance", "X", text, DEFAULTS["tolerance"], float)
    add_number_option(parser, "--epochs", "N", "of each training", DEFAULTS["epochs"])
    text = "trainings of each step, of which the median counts"
    add_number_option(parser, "--seeds", "N", text, DEFAULTS["seeds"])
    parser.add_argument(
        "--target",
        choices=("weights", "bytes"),
        default=DEFAULTS["target"],
        help="what to make fewer; with bytes, a layer that has a native ONNX operator keeps one "
        "(default: weights)",
    )
    text = f"the value that is compared (default: {DEFAULTS['monitor']})"
    parser.add_argument("--monitor", metavar="NAME", default=DEFAULTS["monitor"], help=text)
    text = "whether less or more of it is better (default: auto, by its name)"
    choices = ("auto", "min", "max")
    parser.add_argument("--mode", choices=choices, default=DEFAULTS["mode"], help=text)
    text = "also write ONNX files, checked: float32, int8 and, where it can be, a stream"
    parser.add_argument("--export", action="store_true", help=text)


def _slim(options: argparse.Namespace) -> Result:
    model = _load(options)
    from keras_gated.onnx.errors import require
    from keras_gated.reduction.slim import slim

    if options.export:
        require("onnx", "onnxruntime")  # before the work
    data = [read_samples(getattr(options, k), f"--{k}", model) for k in ("train", "validation")]
    arguments = {name: getattr(options, name) for name in DEFAULTS}
    result = slim(model, *data, **arguments, folder=options.out)
    files = _write(result, options.out, options.export)
    lines = [f"{kind}: {_file_text(file)}" for kind, file in files.items()]
    return Result(result, hint="\n".join(lines), data=_result_as_json(result) | {"files": files})


def _write(result: Any, folder: Path, export: bool) -> dict[str, dict[str, Any]]:
    """Writes the files of a result; returns what is known of each, by kind."""
    from keras_gated.onnx.atomic_file import replace_when_complete

    with replace_when_complete(folder / MODEL) as draft:
        result.model.save(draft)
    files: dict[str, dict[str, Any]] = {"model": {"path": str(folder / MODEL)}}
    if find_spec("matplotlib"):
        result.plot().savefig(folder / FIGURE)
        files["figure"] = {"path": str(folder / FIGURE)}
    if export:
        for kind, file in result.export(folder).items():
            numbers = {"bytes": file.bytes, "microseconds": file.microseconds}
            known = {"reason": file.reason} if file.path is None else numbers
            files[kind] = {"path": file.path and str(file.path)} | known
    return files


def _file_text(file: dict[str, Any]) -> str:
    """One line about a file."""
    if file["path"] is None:
        return f"none: {file['reason']}"
    if "bytes" not in file:
        return file["path"]
    return f"{file['path']}, {file['bytes']:,} bytes, {file['microseconds']:.0f} µs a time step"


def _result_as_json(result: Any) -> dict[str, Any]:
    return {
        "monitor": result.monitor,
        "limit": result.limit,
        "path": list(map(_point, result.path)),
        "rejected": list(map(_point, result.rejected)),
        "control": _point(result.control),
    }


def _point(point: Any) -> dict[str, Any]:
    names = ("title", "weights", "value", "values", "accepted")
    return {name: getattr(point, name) for name in names} | {"changes": _as_json(point.changes)}
