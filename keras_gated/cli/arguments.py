"""Turns text on the command line into arguments of the export functions."""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras_gated.cli.command import natural
from keras_gated.onnx.runtimes import check_runtimes
from keras_gated.onnx.tracing.native_or_scan import LOWERINGS

_INPUT = re.compile(
    r"(?:(?P<key>[^=:]+)=)?(?P<shape>[^=:]+)(?::(?P<dtype>\w+)(?::(?P<name>[^=:]+))?)?"
)


class ModelInput(NamedTuple):
    """An input of a model, as --input describes it.

    Attributes:
        text: what was typed.
        key: the input's key, if the model takes a dictionary; else None.
        shape: sizes; None is an open axis.
        dtype: "float32" unless given. Only Keras knows whether it is one: see `input_signature`.
        name: or None.
    """

    text: str
    key: str | None
    shape: tuple[int | None, ...]
    dtype: str
    name: str | None


def model_input(text: str) -> ModelInput:
    """Reads [KEY=]SHAPE[:DTYPE[:NAME]], e.g. "None,None,88:float32".

    Raises:
        argparse.ArgumentTypeError: if the text has another form.
    """
    if not (match := _INPUT.fullmatch(text)):
        raise _wrong_input(text)
    sizes = [size.strip() for size in match["shape"].split(",")]
    try:
        shape = tuple(None if size == "None" else natural(size) for size in sizes)
    except ValueError:
        raise _wrong_input(text) from None
    return ModelInput(text, match["key"], shape, match["dtype"] or "float32", match["name"])


def _wrong_input(text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(
        "must be [KEY=]SHAPE[:DTYPE[:NAME]], sizes > 0 or None, a dtype that Keras knows, "
        f"e.g. None,None,88:float32 or ids=None,None:int32. Received: {text}"
    )


def input_signature(inputs: Sequence[ModelInput]) -> Any:
    """Returns KerasTensors in the structure that the model takes; None if there are no inputs.

    Raises:
        argparse.ArgumentTypeError: if Keras does not know a dtype.
        ValueError: if only some inputs have a key, or two have the same.
    """
    keys = [one.key for one in inputs]
    if any(keys) and (None in keys or len(set(keys)) < len(keys)):
        raise ValueError(
            "Argument `--input` must have a KEY= of its own each time, or none at all. "
            f"Received: keys {keys}."
        )
    tensors = [_keras_tensor(one) for one in inputs]
    return dict(zip(keys, tensors, strict=True)) if any(keys) else tensors or None


def _keras_tensor(one: ModelInput) -> Any:
    import keras

    try:
        return keras.KerasTensor(one.shape, one.dtype, name=one.name)
    except ValueError:  # a dtype that Keras does not know
        raise _wrong_input(one.text) from None


def runtimes(text: str) -> tuple[str, ...]:
    """Reads NAME,...

    Raises:
        argparse.ArgumentTypeError: if there is no such runtime.
    """
    try:
        return check_runtimes(tuple(text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def lowering(text: str) -> str | dict[str, str]:
    """Reads one of `LOWERINGS`, or LAYER=KIND,...

    Raises:
        argparse.ArgumentTypeError: if the text has another form.
    """
    pairs = [part.rpartition("=") for part in text.split(",")]
    if not all(kind in LOWERINGS for _, _, kind in pairs):
        raise argparse.ArgumentTypeError(
            f"must be one of {', '.join(LOWERINGS)}, or LAYER=KIND,... Received: {text}"
        )
    if len(pairs) == 1 and not pairs[0][1]:
        return text
    return {name: kind for name, _, kind in pairs}
