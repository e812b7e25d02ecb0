"""Convolutions and pooling along the stream's time axis.

Such a layer sees a window of time steps at once. In a stream, a window may begin in an earlier
chunk:

- `Conv1D` with padding="causal": the last inputs, one less than the window, are a state of the
  file. It begins with zeros, which is what this padding puts before a sequence.
- Windows that are not longer than the stride: no window reaches into another chunk, if the length
  of each chunk is a multiple of the stride.
- All others are refused: a window of padding="same" needs later inputs, and with padding="valid"
  the first windows, which would begin before the sequence, have no output.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import keras
from keras import ops

CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
POOLING = (
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
)
WINDOWED = (*CONVOLUTIONS, *POOLING)


@dataclass(frozen=True)
class Window:
    """What a layer sees along an open axis.

    Attributes:
        axis: the open axis of the input.
        length: time steps from the first to the last, holes of a dilation included.
        stride: time steps from one window to the next.
        padding: the layer's.
    """

    axis: int
    length: int
    stride: int
    padding: str

    @property
    def is_carried(self) -> bool:
        """Whether the last inputs must be carried from chunk to chunk."""
        return self.padding == "causal" and self.length > 1


def window_of(layer: Any, shape: Sequence[int | None]) -> Window | None:
    """Returns the window of a layer of `WINDOWED` along the open axis of its input, or None."""
    first = 1 if layer.data_format == "channels_last" else 2
    pools = isinstance(layer, POOLING)
    lengths = layer.pool_size if pools else layer.kernel_size
    for k, length in enumerate(lengths):
        if shape[first + k] is None:
            dilation = 1 if pools else layer.dilation_rate[k]
            length = (length - 1) * dilation + 1
            return Window(first + k, length, layer.strides[k], layer.padding)
    return None


def convolve(layer: keras.layers.Conv1D, inputs: Any) -> Any:
    """Returns the layer's output for windows that lie within the inputs."""
    channels = 1 if layer.data_format == "channels_first" else 2
    y = ops.conv(
        inputs,
        layer.kernel,
        strides=list(layer.strides),
        padding="valid",
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )
    if layer.use_bias:
        y = ops.add(y, ops.reshape(layer.bias, [-1 if k == channels else 1 for k in range(3)]))
    return y if layer.activation is None else layer.activation(y)


def chunk_stride(windows: Sequence[Window | None], lengths: Sequence[int | None], time: int) -> int:
    """Returns the number of time steps of which the length of each chunk must be a multiple.

    Args:
        windows: of the layers.
        lengths: time steps of their inputs for a sequence of `time` time steps; None if unknown.
        time: a multiple of the product of all strides.
    """
    stride = 1
    for window, length in zip(windows, lengths, strict=True):
        if window and window.stride > 1:
            # At the layer, a chunk of n time steps has n length / time: a multiple of its stride.
            least = Fraction(time * window.stride, length).numerator if length else time
            stride = math.lcm(stride, least)
    return stride


def reason_against(name: str, layer: Any, window: Window) -> str | None:
    """Returns why a layer cannot run in chunks, and what to do; None if it can."""
    if window.is_carried and type(layer).call is not keras.layers.Conv1D.call:
        return (
            f"layer {name!r} ({type(layer).__name__}) is a causal convolution with a call() of its "
            "own, and its last inputs cannot be carried. Use keras.layers.Conv1D"
        )
    if window.is_carried or window.length <= window.stride:
        return None
    reason = (
        "it needs later inputs"
        if window.padding == "same"
        else "its first windows would begin before the sequence, and have no output"
    )
    advice = "strides as long as the window"
    advice = f"padding='causal', or {advice}" if isinstance(layer, keras.layers.Conv1D) else advice
    return (
        f"layer {name!r} ({type(layer).__name__}) sees {window.length} time steps at once, with "
        f"strides={window.stride} and padding={window.padding!r}: {reason}. Build it with {advice}"
    )
