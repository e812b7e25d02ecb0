"""Compares a converted model with the original, on inputs that are drawn.

Conversion keeps numbers. If a layer holds a state that was not carried, this finds it and says
which layer it is.
"""

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_gated.convert.layer_copies import first_sentence
from keras_gated.engine.fused import without_cudnn

# Relative to the largest value. Rounding stays far below; TF32 on a GPU rounds at 5e-4.
TOLERANCE = {"float64": 1e-6, "float32": 1e-2, "float16": 5e-2, "bfloat16": 2e-1}
# Sizes of axes that a model leaves open, and the largest integer drawn: the first that runs is
# taken. A long convolution needs a long input; a small Embedding takes small integers.
ATTEMPTS = [(8, 9), (8, 1), (200, 9), (200, 1)]


def check_same_numbers(model: Any, twin: Any) -> None:
    """Raises a ValueError if a copy of a model gives other numbers than the model.

    Nothing is compared if the inputs of the model are not known, if it takes none of the inputs
    that are drawn, or if it draws random numbers itself.
    """
    drawn = _run_on_drawn_inputs(model)
    if drawn is None:
        return
    inputs, expected = drawn
    try:
        actual = _run(twin, inputs)
    except Exception as error:
        raise _difference(
            model, "", f"fails where the model runs: {first_sentence(error)}"
        ) from None
    worst = _worst(actual, expected, model)
    if worst and not _worst(_run(model, inputs), expected, model):
        place = _first_difference(model, twin, inputs)
        raise _difference(model, place, f"gives other numbers, by {worst:.2g}.")


def _difference(model: Any, place: str, what: str) -> ValueError:
    return ValueError(
        f"Argument `layer` must have layers whose state Keras can save. Received: "
        f"{type(model).__name__} {model.name!r}, whose copy {what}{place} A layer of your own "
        "carries its state with get_config, save_own_variables and load_own_variables, or "
        "save_assets and load_assets."
    )


def _run_on_drawn_inputs(model: Any) -> tuple[Any, list[np.ndarray]] | None:
    """Inputs that the model takes and its outputs, or None."""
    try:
        specs = inputs_of(model)
    except (AttributeError, ValueError):  # a Sequential that has not been called
        return None
    for size, largest in ATTEMPTS:
        draw = partial(_draw, np.random.default_rng(0), size, largest)
        inputs = keras.tree.map_structure(draw, specs)
        try:
            outputs = _run(model, inputs)
        except Exception:  # too short, or an integer that is too large: the next may run
            continue
        if all(np.all(np.isfinite(y)) for y in outputs):
            return inputs, outputs
    return None


def inputs_of(model: Any) -> Any:
    """Returns the symbolic inputs of a Sequential or functional model, in its structure."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _draw(rng: np.random.Generator, size: int, largest: int, spec: Any) -> np.ndarray:
    """Values without zeros, which a mask may hide."""
    shape = [size if k else 2 for k in range(len(spec.shape))]
    shape = [known or drawn for known, drawn in zip(spec.shape, shape, strict=True)]
    dtype = keras.backend.standardize_dtype(spec.dtype)
    if dtype == "string":
        return rng.choice(["a", "b", "the", "one"], shape)
    if dtype == "bool":
        return rng.random(shape) < 0.7
    if "int" in dtype:
        return rng.integers(1, largest + 1, shape).astype(dtype)
    return rng.standard_normal(shape).astype("float32")


def _run(model: Any, inputs: Any) -> list[np.ndarray]:
    """The outputs at inference. States and seeds of the model stay as they are."""
    with keras.StatelessScope(), without_cudnn(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of inputs that were drawn, which a user cannot change
        outputs = keras.tree.flatten(model(inputs, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(y), "float64") for y in outputs]


def _worst(actual: list[np.ndarray], expected: list[np.ndarray], model: Any) -> float:
    """The largest difference, or 0 where it is within the tolerance."""
    worst = 0.0
    dtypes = {layer.compute_dtype for layer in (model, *_layers(model))}
    tolerance = max(TOLERANCE.get(dtype, 0.0) for dtype in dtypes | {"float64"})
    for one, right in zip(actual, expected, strict=True):
        if one.shape != right.shape:
            return np.inf
        apart = np.max(np.abs(one - right), initial=0.0)
        if not apart <= tolerance * max(1.0, np.max(np.abs(right), initial=0.0)):
            worst = max(worst, float(apart))
    return worst


def _layers(model: Any) -> Iterator[Any]:
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)


def _first_difference(model: Any, twin: Any, inputs: Any) -> str:
    """Names the first layer whose outputs differ, if it can be found."""
    try:
        for old, new in zip(model.layers, twin.layers, strict=True):
            if isinstance(old, keras.layers.InputLayer):
                continue
            outputs = [_run(_up_to(m, x), inputs) for m, x in ((model, old), (twin, new))]
            if _worst(outputs[1], outputs[0], model):
                return f" The first layer that differs is {type(new).__name__} {new.name!r}."
    except Exception:  # a layer that other models use too has no single output
        return ""
    return ""


def _up_to(model: Any, layer: Any) -> keras.Model:
    return keras.Model(inputs_of(model), layer.output, name=model.name)
