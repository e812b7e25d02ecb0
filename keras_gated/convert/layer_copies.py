"""Copies of the layers that a conversion does not change, each with its whole state.

A layer can keep more than weights: vocabularies, random seeds, arrays that an `adapt` method set.
Keras's own saving carries what a `.keras` file holds, and is used here in memory. What it leaves
out is carried here: random seeds, and plain data among the attributes of a user's own class.
"""

import copy
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import keras
import numpy as np

PLAIN = (bool, int, float, complex, str, bytes, np.ndarray, np.generic, type(None))


def copy_layer(layer: Any) -> Any:
    """Returns a copy of a layer or operation, or the layer itself.

    The layer itself is returned if it has no variables and cannot be copied: it computes the same
    in two models.

    Raises:
        ValueError: if a layer with variables cannot be copied.
    """
    try:
        with custom_objects_of(layer):
            return _copy(layer)
    except Exception as error:
        if not getattr(layer, "variables", None):
            return layer
        raise ValueError(
            "Argument `layer` must have layers that Keras can save and load, because they are "
            f"copied. Received: {type(layer).__name__} {layer.name!r}, which cannot be copied: "
            f"{first_sentence(error)} Give its class a get_config() and from_config() that make an "
            "equal layer."
        ) from None


def _copy(layer: Any) -> Any:
    if not isinstance(layer, keras.Layer):
        return type(layer).from_config(layer.get_config())
    config = layer.get_config()
    if lambdas := {name: value for name, value in _lambdas(layer).items() if name in config}:
        # Saving would copy the code of a lambda without the names that it uses.
        twin = type(layer)(**config | lambdas)
        if layer.built and (shapes := layer.get_build_config()):
            twin.build_from_config(shapes)
    else:
        twin = copy.deepcopy(layer)  # Keras saves and loads the layer in memory
    if not type(layer).__module__.startswith("keras.") and not isinstance(layer, keras.Model):
        _carry_attributes(layer, twin)
    return twin


def _lambdas(layer: keras.Layer) -> dict[str, Any]:
    """The attributes of a layer that are a lambda, by the name of the argument."""
    values = {name.removeprefix("_"): value for name, value in vars(layer).items()}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, FunctionType) and value.__name__ == "<lambda>"
    }


def _carry_attributes(layer: keras.Layer, twin: keras.Layer) -> None:
    """Copies plain data and tensors that the class of a user keeps in attributes."""
    for name in vars(layer).keys() - vars(keras.Layer(name="layer")).keys():
        value = vars(layer)[name]
        if keras.ops.is_tensor(value) and not isinstance(value, keras.Variable):
            setattr(twin, name, value)
        elif _is_plain(value) and _bytes(value) != _bytes(vars(twin).get(name)):
            setattr(twin, name, _plain_copy(value))


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(part) for part in (*value.keys(), *value.values()))
    if isinstance(value, list | tuple | set):
        return all(_is_plain(part) for part in value)
    return isinstance(value, PLAIN)


def _plain_copy(value: Any) -> Any:
    """A copy without the classes in which Keras wraps the lists and dictionaries of a layer."""
    if isinstance(value, dict):
        return {key: _plain_copy(part) for key, part in value.items()}
    for kind in (list, set):
        if isinstance(value, kind):
            return kind(_plain_copy(part) for part in value)
    return copy.deepcopy(value)


def carry_seeds(layer: keras.Layer, twin: keras.Layer) -> None:
    """Gives a copy the random seeds of its original, and weights that saving merges (LoRA)."""
    _assign(twin, layer)


def compile_like(model: keras.Model, twin: keras.Model) -> None:
    """Compiles a copy of a model with copies of its optimizer and metrics, and the same loss."""
    if not compile_afresh(model, twin):
        return
    if model.optimizer is not None and model.optimizer.built:
        twin.optimizer.build(twin.trainable_variables)
        _assign(twin.optimizer, model.optimizer)


def compile_afresh(model: keras.Model, twin: keras.Model) -> bool:
    """Compiles a model as another one, with an optimizer in its first state.

    Returns whether that was possible. If not, it warns.
    """
    try:
        with custom_objects_of(model):
            config = model.get_compile_config()
            config.pop("loss", None)
            arguments = keras.saving.deserialize_keras_object(config)
        twin.compile(**arguments, loss=getattr(model, "loss", None))
        return True
    except Exception as error:
        warnings.warn(
            f"Model {model.name!r} is compiled, and its copy is not: {first_sentence(error)} Call "
            "compile() on the copy.",
            stacklevel=6,
        )
        return False


def _assign(new: Any, old: Any) -> None:
    """Gives a layer or optimizer the variables of another, if they have the same."""
    if _shapes(old.variables) == _shapes(new.variables):
        assign_copies(new.variables, old.variables)


def assign_copies(variables: list, values: list) -> None:
    """Assigns to each variable a copy of a value.

    Without a copy both would hold one array on JAX, and training the one would delete that of the
    other.
    """
    for variable, value in zip(variables, values, strict=True):
        variable.assign(keras.ops.copy(value))


def _shapes(variables: list) -> list[tuple]:
    return [(tuple(variable.shape), variable.dtype) for variable in variables]


def _bytes(value: Any) -> bytes | None:
    """What plain data is, to compare it."""
    return pickle.dumps(_plain_copy(value)) if _is_plain(value) else None


# Functions and classes that a file would only name


@contextmanager
def custom_objects_of(thing: Any) -> Iterator[None]:
    """While the context is open, Keras finds the user's functions and classes that `thing` uses.

    They need not be registered, since nothing leaves memory. Warnings, of files, are silent.
    """
    objects = _custom_objects(thing)
    with keras.saving.custom_object_scope(objects), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _custom_objects(thing: Any) -> dict[str, Any]:
    """Functions and classes that a layer or model uses, by the name that Keras looks up.

    A name that two of them share is left out: Keras could take the wrong one.
    """
    found: dict[str, Any] = {}
    shared: set[str] = set()
    for part in parts_within(thing):
        kind = part if isinstance(part, type | FunctionType) else type(part)
        if not kind.__module__.startswith("keras."):
            name = keras.saving.get_registered_name(kind)
            if found.setdefault(name, kind) is not kind:
                shared.add(name)
    return {name: kind for name, kind in found.items() if name not in shared}


def parts_within(thing: Any) -> Iterator[Any]:
    """Yields a layer or model and what it holds at any depth: layers, losses, functions, ..."""
    waiting, seen = [thing], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple | set):
            waiting.extend(part)
        elif isinstance(part, type | FunctionType):
            yield part
        elif hasattr(part, "get_config"):
            yield part
            waiting.extend(vars(part).values())


def first_sentence(error: Exception) -> str:
    """Returns the beginning of what a library says, for a message of this package."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text.partition(". ")[0].rstrip(".")
    return f"{text[:160]}..." if len(text) > 160 else f"{text}."
