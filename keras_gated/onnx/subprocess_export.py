"""Export from the JAX and torch backends: the model goes to a process that runs on TensorFlow.

It travels in its `.keras` file; request and answer are JSON files beside it.
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

from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.report import ExportReport, LayerReport, as_json

# TensorFlow without its log, and on the CPU: the graphics card's memory is the caller's.
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}
_RAISED = {kind.__name__: kind for kind in (ExportError, ValueError, ImportError)}


# Here -------------------------------------------------------------------------------------------


def on_tensorflow() -> bool:
    """Whether this process can trace a model for the export itself."""
    return keras.backend.backend() == "tensorflow"


def export_in_subprocess(
    export: Callable, model: keras.Model, path: Path, input_signature: Any, modules, **arguments
) -> ExportReport:
    """Calls `export(model, path, ...)` in a process whose Keras runs on TensorFlow.

    Args:
        export: a function at the top of a module, which takes a model and a path.
        model: a Keras model that can be saved.
        path: of the file to write.
        input_signature: as in `export_onnx`.
        modules: names of modules that define the model's custom layers and functions, beside those
            that the saved model names.
        arguments: further ones of `export`, of kinds that JSON has.

    Returns:
        The report. The file was compared with the model as TensorFlow runs it, if at all.

    Raises:
        ExportError: if the model cannot be saved or loaded, or cannot leave as ONNX.
        ImportError: if TensorFlow or another package of the extra "onnx" is not installed.
    """
    require("tensorflow")  # Keras imports it anyway when it saves the model
    with TemporaryDirectory(prefix="keras_gated_") as name:
        folder = Path(name)
        classes = _saved(model, folder / "model.keras")
        request = {
            "export": [export.__module__, export.__name__],
            "path": os.fspath(Path(path).absolute()),
            "input_signature": _signature_to_json(input_signature),
            "classes": classes,
            "modules": list(modules),
            "arguments": as_json(arguments),
        }
        (folder / "request.json").write_text(json.dumps(request))
        answer = _asked(folder)
    if "error" in answer:
        kind, message = answer["error"]
        raise _RAISED.get(kind, ExportError)(message)
    return _report_from_json(answer["report"])


def _saved(model: keras.Model, file: Path) -> list:
    """Saves the model; returns the (module, name) of the classes and functions it is made of."""
    try:
        model.save(file)
        made_of = set(_defined_within(keras.saving.serialize_keras_object(model)))
    except Exception as error:
        raise ExportError(
            f"On Keras's {keras.backend.backend()} backend the export hands the model to a process "
            f"on TensorFlow in its .keras file, but model {model.name!r} cannot be saved: {error}"
        ) from error
    ours = ("builtins", "keras", "keras_gated")
    found = sorted(pair for pair in made_of if pair[0].partition(".")[0] not in ours)
    if lost := [name for module, name in found if module == "__main__"]:
        raise ExportError(
            f"On Keras's {keras.backend.backend()} backend the model is exported in a process of "
            "its own, which must import what the model is made of. Received: "
            f"{', '.join(lost)}, defined in the script or notebook that runs (__main__). Move "
            "it to a module, e.g. my_layers.py, and import it from there; or export in a process "
            "that is started with KERAS_BACKEND=tensorflow."
        )
    return found


def _defined_within(config: Any) -> Iterator[tuple[str, str]]:
    """(module, name) of each class and function in a serialized object, of registered ones twice.

    A class that is not registered stands there with its module, a registered one may do so too; a
    registered function may stand as no more than the name it is registered by.
    """
    if isinstance(config, str):
        registered = keras.saving.get_registered_object(config)
        if registered is not None:
            yield registered.__module__, registered.__name__
    elif isinstance(config, list | tuple):
        for part in config:
            yield from _defined_within(part)
    elif isinstance(config, dict):
        if config.get("module"):
            name = config["class_name"]
            yield config["module"], config["config"] if name == "function" else name
        for part in config.values():
            yield from _defined_within(part)


def _asked(folder: Path) -> dict:
    """Runs the process that answers the request in a folder."""
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
    last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
    raise ExportError(
        "The process on TensorFlow that exports the model ended with status "
        f"{done.returncode} and no answer: {last}"
    )


def _report_from_json(data: dict) -> ExportReport:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    fields["layers"] = tuple(LayerReport(**layer) for layer in data["layers"])
    return ExportReport(**fields)


def _signature_to_json(signature: Any) -> Any:
    if isinstance(signature, dict):
        return {"dict": {key: _signature_to_json(part) for key, part in signature.items()}}
    if isinstance(signature, list | tuple):
        return [_signature_to_json(part) for part in signature]
    if signature is None:
        return None
    shape = [None if size is None else int(size) for size in signature.shape]
    dtype = getattr(signature, "dtype", None) or "float32"
    return {
        "shape": shape,
        "dtype": keras.backend.standardize_dtype(dtype),
        "name": getattr(signature, "name", None),
    }


# There ------------------------------------------------------------------------------------------


def answer(folder: Path) -> None:
    """Does what the request in a folder asks for, and leaves the answer beside it."""
    request = json.loads((folder / "request.json").read_text())
    try:
        result = {"report": as_json(_exported(folder / "model.keras", request))}
    except tuple(_RAISED.values()) as error:
        kind = next(name for name, kind in _RAISED.items() if isinstance(error, kind))
        result = {"error": [kind, str(error)]}
    except Exception as error:  # noqa: BLE001 - a layer may raise anything
        reason = (
            "The model must also run on Keras's TensorFlow backend, which exports it; its layers "
            f"do if they use keras.ops only. Received there: {type(error).__name__}: {error}"
        )
        result = {"error": ["ExportError", reason]}
    draft = folder / "answer.part"
    draft.write_text(json.dumps(result))
    draft.replace(folder / "answer.json")


def _exported(model_file: Path, request: dict) -> ExportReport:
    import_modules([*(module for module, _ in request["classes"]), *request["modules"]])
    found = {name: getattr(sys.modules[m], name, None) for m, name in request["classes"]}
    # The file comes from this user's own process, so code in it (a Lambda) is theirs.
    model = load_model(model_file, {k: v for k, v in found.items() if v}, safe_mode=False)
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
                "Put its folder on PYTHONPATH, or name the module as an import statement does."
            ) from error


def load_model(file: Path, classes: dict | None = None, safe_mode: bool = True) -> keras.Model:
    """Loads a `.keras` file.

    Args:
        file: its path.
        classes: custom classes by name, beside the registered ones.
        safe_mode: bool. Whether a file that holds code is refused.

    Raises:
        ExportError: if it cannot be loaded.
    """
    if not Path(file).is_file():
        raise ExportError(f"There is no file {os.fspath(file)!r}. Write it with model.save(...).")
    try:
        model: Any = keras.models.load_model(file, classes, compile=False, safe_mode=safe_mode)
        return model
    except Exception as error:
        raise ExportError(
            f"Keras cannot load the model: {error}\nClasses and functions of your own must stand "
            "at the top of a module, be registered there with "
            "keras.saving.register_keras_serializable, and the module be named: modules=[...] "
            "in Python, --module on the command line."
        ) from error


def _signature_from_json(data: Any) -> Any:
    if isinstance(data, list):
        return [_signature_from_json(part) for part in data]
    if data is None:
        return None
    if "dict" in data:
        return {key: _signature_from_json(part) for key, part in data["dict"].items()}
    return keras.KerasTensor(**data)


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
