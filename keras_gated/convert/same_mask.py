"""Makes a converted layer use the mask that the original used, where Keras's layers lose theirs.

Keras gives a layer the mask of its inputs as `mask` only if it is called with one tensor. A layer
that gets its initial state too has none, unless `mask` is passed; gated layers find it in
`sequences_mask`. A conversion must keep numbers, so the call says which mask counts.
"""

from typing import Any

import keras

from keras_gated.layers import GatedRNN

LAYERS = keras.layers


def same_mask(old: Any, new: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the keyword arguments with which the converted layer is to be called in a model.

    Args:
        old: the original layer.
        new: the converted layer.
        args: positional arguments of the call of the original: tensors of Keras.
        kwargs: its keyword arguments.

    Raises:
        ValueError: if no argument of the converted layer says which mask counts.
    """
    if not isinstance(new, LAYERS.RNN | LAYERS.Bidirectional) or _is_gated(old) == _is_gated(new):
        return kwargs
    if kwargs.get("lengths") is not None:
        raise _error(old, "lengths=", "Keras has no such argument: pass mask= instead.")
    if kwargs.get("resets") is not None:
        raise _error(old, "resets=", "Keras has no such argument: keep the gated layer there.")
    own = ("lengths", "resets")
    kwargs = {name: value for name, value in kwargs.items() if name not in own}
    ignored = kwargs.pop("sequences_mask", None) is False
    if kwargs.get("mask") is not None or ignored or not _has_states(args, kwargs):
        return kwargs
    mask = _mask_of(args[0] if args else kwargs["sequences"])
    if mask is None:
        return kwargs
    if isinstance(new, GatedRNN):
        return kwargs | {"sequences_mask": False}
    if isinstance(new, LAYERS.Bidirectional) and _is_gated(new):
        advice = "Keras ignores the mask there, and gated layers do not: pass mask= too."
        raise _error(old, "initial_state= on masked inputs", advice)
    return kwargs | {"mask": mask}


def _is_gated(layer: Any) -> bool:
    return isinstance(getattr(layer, "forward_layer", layer), GatedRNN)


def _has_states(args: tuple, kwargs: dict[str, Any]) -> bool:
    return bool(args[1:2] and args[1] is not None) or kwargs.get("initial_state") is not None


def _error(layer: Any, argument: str, advice: str) -> ValueError:
    return ValueError(
        "Argument `layer` must be a model whose calls of recurrent layers mean the same after "
        f"the conversion. Received: {type(layer).__name__} {layer.name!r}, called with {argument}. "
        f"{advice}"
    )


class _MaskOf(LAYERS.Layer):
    """Remembers the mask with which it is called."""

    def __init__(self):
        super().__init__(name="mask_of")
        self.supports_masking = True
        self.received = None

    def compute_output_spec(self, x, mask=None):
        self.received = mask
        return keras.KerasTensor(x.shape, x.dtype)

    def call(self, x, mask=None):
        return x


def _mask_of(tensor: Any) -> Any:
    """The mask that Keras keeps for a tensor of a functional model, or None."""
    layer = _MaskOf()
    layer(tensor)
    return layer.received
