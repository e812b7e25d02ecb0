"""Exports from Keras's JAX and torch backends, with the help of a process on TensorFlow.

Only TensorFlow can record a graph that tf2onnx converts, and Keras cannot change its backend in a
running process. So this process saves the model to a folder, starts a second one whose Keras runs
on TensorFlow, and reads its answer:

    model.keras    the model
    request.json   which export function to call, with which arguments
    answer.json    the report, or the error
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
from keras import tree

from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.report import ExportReport, LayerReport, as_json

# No log of TensorFlow, and no GPU: the calling process uses the GPU's memory.
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}
# Errors that the second process passes on under their own class.
_ERRORS = {kind.__name__: kind for kind in (ExportError, ValueError, ImportError)}


# In the calling process ---------------------------------------------------------------------------


def on_tensorflow() -> bool:
    """Whether Keras runs on TensorFlow here, so that no second process is needed."""
    return keras.backend.backend() == "tensorflow"


def export_in_subprocess(
    export: Callable, model: keras.Model, path: Path, input_signature: Any, modules, **arguments
) -> ExportReport:
    """Calls `export(model, path, ...)` in a process whose Keras runs on TensorFlow.

    Args:
        export: a function at the top level of a module, with the arguments `model` and `path`.
        model: a Keras model that can be saved.
        path: where to write the file.
        input_signature: as in `export_onnx`.
        modules: names of modules that define the model's custom layers and functions, in addition
            to those that the saved model names.
        arguments: further arguments of `export`, which JSON can hold.

    Returns:
        The report. If `arguments` say verify=True, the file was compared with the model as it runs
        on TensorFlow.

    Raises:
        ExportError: if the model cannot be saved, loaded or exported.
        ImportError: if TensorFlow or another package of the extra "onnx" is not installed.
    """
    # Raises here rather than in the second process. Keras imports it anyway to save the model.
    require("tensorflow")
    with TemporaryDirectory(prefix="keras_gated_") as name:
        folder = Path(name)
        classes = _save_model(model, folder / "model.keras")
        request = {
            "export": [export.__module__, export.__name__],
            "path": os.fspath(Path(path).absolute()),
            "input_signature": _signature_to_json(input_signature),
            "classes": classes,
            "modules": list(modules),
            "arguments": as_json(arguments),
        }
        (folder / "request.json").write_text(json.dumps(request))
        answer = _run_request(folder)
    if "error" in answer:
        kind, message = answer["error"]
        raise _ERRORS.get(kind, ExportError)(message)
    return _report_from_json(answer["report"])


def _save_model(model: keras.Model, file: Path) -> list:
    """Saves a model; returns (module, name) of the custom classes and functions in it.

    The second process must import these modules, or Keras cannot load the model there.
    """
    try:
        model.save(file)
        objects = set(_classes_within(keras.saving.serialize_keras_object(model)))
    except Exception as error:
        raise ExportError(
            f"On Keras's {keras.backend.backend()} backend, the export saves the model as a .keras "
            "file, which a process on TensorFlow loads. "
            f"Model {model.name!r} cannot be saved: {error}"
        ) from error
    known = ("builtins", "keras", "keras_gated")
    custom = sorted(pair for pair in objects if pair[0].partition(".")[0] not in known)
    if in_main := [name for module, name in custom if module == "__main__"]:
        raise ExportError(
            f"On Keras's {keras.backend.backend()} backend, a second process exports the model. It "
            "must be able to import the model's classes and functions. "
            f"Received: {', '.join(in_main)}, defined in the script or notebook that runs "
            "(__main__). Move it to a module, e.g. my_layers.py, and import it from there. Or run "
            "the export in a process that is started with KERAS_BACKEND=tensorflow."
        )
    return custom


def _classes_within(config: Any) -> Iterator[tuple[str, str]]:
    """Yields (module, name) of the classes and functions in a serialized object.

    Keras writes the module of a class that is not registered. Of a registered class it may write
    the module as well, so it may appear twice. Of a registered function it may write nothing but
    the name that it is registered under, as a string.
    """
    if isinstance(config, str):
        registered = keras.saving.get_registered_object(config)
        if registered is not None:
            yield registered.__module__, registered.__name__
    elif isinstance(config, list | tuple):
        for part in config:
            yield from _classes_within(part)
    elif isinstance(config, dict):
        if config.get("module"):
            name = config["class_name"]
            yield config["module"], config["config"] if name == "function" else name
        yield from _classes_within([*config.values()])


def _run_request(folder: Path) -> dict:
    """Starts the second process, waits for it and returns its answer."""
    # The same sys.path, so that modules in the current folder are found.
    paths = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(folder)],
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    file = folder / "answer.json"
    if file.exists():
        return json.loads(file.read_text())
    last_line = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
    raise ExportError(
        "The process on TensorFlow that exports the model ended with status "
        f"{done.returncode} and no answer: {last_line}"
    )


def _report_from_json(data: dict) -> ExportReport:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    fields["layers"] = tuple(LayerReport(**layer) for layer in data["layers"])
    return ExportReport(**fields)


def _signature_to_json(signature: Any) -> Any:
    """The same structure, with a text for each tensor: a dictionary would be part of it."""

    def as_text(tensor: Any) -> str | None:
        if tensor is None:
            return None
        shape = [None if size is None else int(size) for size in tensor.shape]
        dtype = keras.backend.standardize_dtype(getattr(tensor, "dtype", None) or "float32")
        return json.dumps({"shape": shape, "dtype": dtype, "name": getattr(tensor, "name", None)})

    return tree.map_structure(as_text, signature)


# In the process on TensorFlow ---------------------------------------------------------------------


def answer_request(folder: Path) -> None:
    """Runs the request in a folder and writes the answer, a report or an error, to the folder."""
    request = json.loads((folder / "request.json").read_text())
    try:
        result = {"report": as_json(_run_export(folder / "model.keras", request))}
    except tuple(_ERRORS.values()) as error:
        kind = next(name for name, kind in _ERRORS.items() if isinstance(error, kind))
        result = {"error": [kind, str(error)]}
    except Exception as error:  # noqa: BLE001 - a layer may raise anything
        reason = (
            "The model must also run on Keras's TensorFlow backend, which exports it; layers that "
            f"use only keras.ops do. Received there: {type(error).__name__}: {error}"
        )
        result = {"error": ["ExportError", reason]}
    # Renamed once complete: if the process dies, there is no half answer.
    draft = folder / "answer.part"
    draft.write_text(json.dumps(result))
    draft.replace(folder / "answer.json")


def _run_export(model_file: Path, request: dict) -> ExportReport:
    import_modules([*(module for module, _ in request["classes"]), *request["modules"]])
    classes = {name: getattr(sys.modules[m], name, None) for m, name in request["classes"]}
    # safe_mode=False: the calling process of the same user wrote this file, with any code in it
    # (e.g. a Lambda layer).
    model = load_model(model_file, {k: v for k, v in classes.items() if v}, safe_mode=False)
    module, name = request["export"]
    return getattr(import_module(module), name)(
        model,
        request["path"],
        input_signature=_signature_from_json(request["input_signature"]),
        **request["arguments"],
    )


def import_modules(names: Sequence[str]) -> None:
    """Imports the modules that define a model's custom layers.

    Raises:
        ExportError: if one cannot be imported.
    """
    for name in names:
        try:
            import_module(name)
        except Exception as error:
            raise ExportError(
                f"The module {name!r}, which defines custom layers, cannot be imported: {error}. "
                "Add its folder to PYTHONPATH, or give the name that an import statement would use."
            ) from error


def load_model(
    file: Path, classes: dict | None = None, safe_mode: bool = True, compiled: bool = False
) -> keras.Model:
    """Loads a `.keras` file.

    Args:
        file: its path.
        classes: {name: class}, custom classes in addition to the registered ones.
        safe_mode: bool. Whether to refuse a file that holds Python code.
        compiled: bool. Whether to compile the model as it was when it was saved.

    Raises:
        ExportError: if it cannot be loaded.
    """
    if not Path(file).is_file():
        raise ExportError(f"There is no file {os.fspath(file)!r}. Write it with model.save(...).")
    try:
        model: Any = keras.models.load_model(file, classes, compiled, safe_mode)
        return model
    except Exception as error:
        raise ExportError(
            f"Keras cannot load the model: {error}\nDefine your own classes and functions at the "
            "top level of a module, register them there with "
            "keras.saving.register_keras_serializable, and name the module: modules=[...] "
            "in Python, --module on the command line."
        ) from error


def _signature_from_json(data: Any) -> Any:
    return tree.map_structure(lambda text: text and keras.KerasTensor(**json.loads(text)), data)


if __name__ == "__main__":
    answer_request(Path(sys.argv[1]))
