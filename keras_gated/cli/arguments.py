"""What a user writes on the command line as the arguments of the functions."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

import keras

from keras_gated.onnx.tracing.choice import LOWERINGS

_INPUT = re.compile(
    r"(?:(?P<key>[^=:]+)=)?(?P<shape>[^=:]+)(?::(?P<dtype>\w+)(?::(?P<name>[^=:]+))?)?"
)


def input_of_model(text: str) -> tuple[str | None, keras.KerasTensor]:
    """Reads [KEY=]SHAPE[:DTYPE[:NAME]], e.g. "None,None,88:float32"; returns the key, or None, too.

    Raises:
        argparse.ArgumentTypeError: if it is anything else.
    """
    try:
        found = _INPUT.fullmatch(text)
        if not found:
            raise ValueError
        sizes = [part.strip() for part in found["shape"].split(",")]
        shape = tuple(None if size == "None" else int(size) for size in sizes)
        if any(size is not None and size < 1 for size in shape):
            raise ValueError
        tensor = keras.KerasTensor(shape, found["dtype"] or "float32", name=found["name"])
        return found["key"], tensor
    except ValueError as error:  # Keras raises one for a dtype that it does not know
        raise argparse.ArgumentTypeError(
            "must be [KEY=]SHAPE[:DTYPE[:NAME]], sizes > 0 or None, a dtype that Keras knows, "
            f"e.g. None,None,88:float32 or ids=None,None:int32. Received: {text}"
        ) from error


def signature(inputs: Sequence[tuple[str | None, keras.KerasTensor]]) -> Any:
    """Returns inputs by `input_of_model` as the model takes them; None if there are none.

    Raises:
        ValueError: if some have a key and others none, or two the same.
    """
    keys, tensors = [key for key, _ in inputs], [tensor for _, tensor in inputs]
    if not any(keys):
        return tensors or None
    if None in keys or len(set(keys)) < len(keys):
        raise ValueError(
            "Argument `--input` must have a KEY= of its own each time, or none at all. "
            f"Received: keys {keys}."
        )
    return dict(zip(keys, tensors, strict=True))


def lowering(text: str) -> str | dict[str, str]:
    """Reads one of `LOWERINGS`, or LAYER=KIND,...

    Raises:
        argparse.ArgumentTypeError: if it is neither.
    """
    pairs = [part.rpartition("=") for part in text.split(",")]
    if not all(kind in LOWERINGS for _, _, kind in pairs):
        raise argparse.ArgumentTypeError(
            f"must be one of {', '.join(LOWERINGS)}, or LAYER=KIND,... Received: {text}"
        )
    if len(pairs) == 1 and not pairs[0][1]:
        return text
    return {name: kind for name, _, kind in pairs}
