"""The batches and time lengths at which a file is compared.

Some models take no short sequence, e.g. one that begins with a convolution over 400 time steps.
Keras can compute the shapes of a model's outputs without running it, so the shortest length that
the model takes is searched for.
"""

from collections.abc import Callable, Iterable

import keras
from keras import tree

from keras_gated.onnx.tracing.model_io import Interface, shape_of
from keras_gated.onnx.verify.differences import on_cpu, short_reason

# (batch, time). Never 0: a file without guards would end the process.
SHAPES = ((2, 9), (3, 1), (1, 14))
LONGER = (32, 128, 512, 2048)  # time steps, where the model cannot say which it takes
LONGEST = 2**20
OTHERS = (3, 9, 32, 128)  # sizes of open axes behind the second

Takes = Callable[[int, int], bool]  # (batch, time) -> whether the model takes it


def try_shapes(run: Takes, takes: Takes | None = None) -> None:
    """Calls `run` with several batches and time lengths.

    If the model refuses every sequence of more than one time step, it is run at the shortest that
    it takes and at two that are longer.

    Args:
        run: runs the model at a shape; returns whether the model took it.
        takes: says whether the model takes a shape, without running it. None if nobody can say:
            then a few lengths are tried.
    """
    taken = [run(batch, time) for batch, time in SHAPES]
    if any(took and time > 1 for took, (_, time) in zip(taken, SHAPES, strict=True)):
        return
    if takes and (shortest := shortest_time(takes)) and run(2, shortest):
        for batch, least in ((1, shortest + 5), (3, 2 * shortest + 1)):
            if longer := _first(takes, range(least, least + shortest)):
                run(batch, longer)
    elif longer := next((time for time in LONGER if run(2, time)), None):
        run(1, longer + 5)


def shortest_time(takes: Takes) -> int | None:
    """Returns the shortest time length > 1 that a model takes; None if none is found."""
    powers = [2**k for k in range(1, LONGEST.bit_length())]
    end = _first(takes, powers)
    if end is None:  # perhaps a model for multiples of a number
        return _first(takes, range(2, 129))
    begin = end // 2  # refused, or 1
    while end - begin > 1:
        middle = (begin + end) // 2
        begin, end = (begin, middle) if takes(2, middle) else (middle, end)
    return end


def _first(takes: Takes, times: Iterable[int]) -> int | None:
    return next((time for time in times if takes(2, time)), None)


class ShapeCheck:
    """Says whether a model takes a shape, without computing anything.

    Args:
        model: the model.
        interface: its inputs.

    Attributes:
        other: size of open axes behind the second: the smallest of `OTHERS` that the model takes.
        can_say: whether there is any shape that it takes. If not, Keras cannot say.
    """

    def __init__(self, model: keras.Model, interface: Interface):
        self._model, self._interface = model, interface
        others = OTHERS if any(None in port.shape[2:] for port in interface.ports) else OTHERS[:1]
        for self.other in others:
            if self.takes(*SHAPES[0]) or shortest_time(self.takes):
                self.can_say = True
                return
        self.can_say, self.other = False, OTHERS[0]

    def takes(self, batch: int, time: int) -> bool:
        """Whether the model takes a shape, and no output is empty."""
        return self.refusal(batch, time) is None

    def refusal(self, batch: int, time: int) -> str | None:
        """Returns why the model does not take a shape, with "{}" for the shape; None if it does."""
        ports = self._interface.ports
        shapes = [shape_of(port, batch, time, self.other) for port in ports]
        pairs = zip(shapes, ports, strict=True)
        tensors = [keras.KerasTensor(shape, port.dtype) for shape, port in pairs]
        try:
            with on_cpu():
                outputs = self._model.compute_output_spec(self._interface.pack(tensors))
        except Exception as error:  # noqa: BLE001 - a layer may raise anything
            return f"Keras refuses {{}}: {short_reason(error).split(' Received')[0]}"
        empty = any(0 in output.shape for output in tree.flatten(outputs))
        return "Keras gives an empty output at {}" if empty else None
