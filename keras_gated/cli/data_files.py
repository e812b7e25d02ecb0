"""Reads files of arrays: the inputs of a model, or data to evaluate and to train it on."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_gated.onnx.errors import ExportError

TARGETS, WEIGHTS = "y", "sample_weight"


def read_arrays(file: Path, option: str) -> Any:
    """Returns the array of an .npy file, or those of an .npz file by name.

    Args:
        file: its path.
        option: the option that named it, for the error message.
    """
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as data:
            return dict(data)
    except TypeError:  # an .npy file: an array is no context
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ExportError(
            f"Argument {option} must be an .npy or .npz file of numbers, as numpy.save or "
            f"numpy.savez(FILE, x=x) writes it. Received: {os.fspath(file)!r}: {reason}"
        ) from error


def read_samples(file: Path, option: str, model: Any) -> tuple:
    """Returns (x, y) or (x, y, sample_weight) of an .npz file, as `model.fit` takes them.

    The file has each input under its name, or a single one as "x"; the targets as "y", or those of
    several outputs under the names of the outputs; and "sample_weight" if there are weights.

    Args:
        file: its path.
        option: the option that named it, for the error message.
        model: a functional or Sequential model.

    Raises:
        ValueError: if the arrays are not those of the model.
    """
    arrays = read_arrays(file, option)
    ports, pack = _inputs_of(model)
    outputs = list(getattr(model, "output_names", ()))
    names = [port.name for port in ports]
    targets = outputs if len(outputs) > 1 else [TARGETS]
    found = arrays if isinstance(arrays, Mapping) else {}
    if len(names) == 1 and names[0] not in found:
        names = ["x"]
    wanted = [*names, *targets]
    if set(found) - {WEIGHTS} != set(wanted):
        keywords = ", ".join(f"{name}=..." for name in wanted)
        received = f"with arrays {', '.join(found)}" if found else "without names"
        raise ValueError(
            f"Argument {option} must be an .npz file with the arrays {', '.join(wanted)}, and with "
            f"{WEIGHTS} if samples have weights. Received: {os.fspath(file)!r} {received}. "
            f"Write it with numpy.savez(FILE, {keywords})."
        )
    _check_shapes(found, dict(zip(names, ports, strict=True)), file, option)
    y = found[TARGETS] if targets == [TARGETS] else _packed(model, [found[k] for k in targets])
    weights = [found[WEIGHTS]] if WEIGHTS in found else []
    return (pack([found[name] for name in names]), y, *weights)


def _inputs_of(model: Any) -> tuple:
    """The inputs of a model, and what packs arrays into the structure that the model takes."""
    from keras_gated.onnx.tracing.model_io import interface_of

    try:
        interface = interface_of(model)
    except ValueError:
        raise ValueError(
            "Argument MODEL.keras must be a Sequential or functional model, which knows its "
            f"inputs. Received: {type(model).__name__} {model.name!r}. Build it with keras.Model("
            "inputs, outputs), or begin the Sequential with keras.Input."
        ) from None
    return interface.ports, interface.pack


def _packed(model: Any, arrays: Sequence) -> Any:
    """Targets in the structure of the model's outputs."""
    from keras import tree

    return tree.pack_sequence_as(model.output, arrays)


def _check_shapes(arrays: Mapping, ports: Mapping, file: Path, option: str) -> None:
    """Raises a ValueError if an input has another shape, or the numbers of rows differ."""
    for name, port in ports.items():
        pairs = list(zip(arrays[name].shape, port.shape, strict=False))
        same = all(size in (None, received) for received, size in pairs[1:])
        if arrays[name].ndim != len(port.shape) or not same:
            sizes = ", ".join("any" if size is None else str(size) for size in port.shape)
            raise ValueError(
                f"Argument {option} must have {name} of shape ({sizes}), as the model takes it. "
                f"Received: {os.fspath(file)!r} with shape {arrays[name].shape}."
            )
    rows = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(rows.values())) > 1 or 0 in rows.values():
        raise ValueError(
            f"Argument {option} must have arrays with the same number of rows, at least one. "
            f"Received: {os.fspath(file)!r} with {rows}."
        )
