"""A stream through a file of export_streaming: states kept from call to call.

This file imports NumPy and onnxruntime alone: where there is no Keras, a copy of it is enough.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STATES = "keras_gated.states"  # the key under which a file lists its states
DTYPES = {"float": "float32", "double": "float64"}  # ONNX's names that are not NumPy's


@dataclass(frozen=True)
class _Port:
    """An input or output: its axes, open ones by name, and whether it has one time step each."""

    name: str
    axes: tuple[int | str, ...]
    dtype: np.dtype
    timed: bool


@dataclass(frozen=True)
class _State:
    """A state: the input and output that carry it, its shape without the batch."""

    input: str
    output: str
    shape: tuple[int, ...]
    dtype: str


class _Kept:
    """The states of a stream, in buffers that onnxruntime reads and writes where they are.

    There are two sets: a run reads one and writes the other. Inputs and outputs have buffers, too,
    which runs with the same shapes share: for a small model, handing arrays over takes longer than
    computing.

    Args:
        session: onnxruntime.InferenceSession.
        states: of the file.
        ports: names of the inputs and of the outputs that are no states.
        first: states to begin with, by the names of their inputs; not to be changed afterwards,
            and in C order: of an array in another, onnxruntime would take a copy and write there.
    """

    def __init__(self, session: Any, states: list[_State], ports: tuple, first: dict):
        self._session, self._states, (self._inputs, self._outputs) = session, states, ports
        self._sets = [first]  # the first run makes the second
        self._shapes: list | None = None  # of the inputs that have buffers

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Takes the inputs, returns the outputs. Where it fails, the states stay as they are."""
        if [x.shape for x in arrays] != self._shapes:
            return self._run_first(arrays)
        for buffer, x in zip(self._given, arrays, strict=True):
            buffer[...] = x
        self._session.run_with_iobinding(self._bound[0])
        self._bound.reverse()
        self._sets.reverse()
        return [y.copy() for y in self._found]

    def _run_first(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """A run by the names, which tells the shapes of the outputs; makes the buffers."""
        feed = {**self._sets[0], **dict(zip(self._inputs, arrays, strict=True))}
        wanted = [*self._outputs, *(state.output for state in self._states)]
        found = self._session.run(wanted, feed)
        written = zip(self._states, found[len(self._outputs) :], strict=True)
        self._sets = [{s.input: x for s, x in written}, self._sets[0]]
        self._given = [np.array(x, order="C") for x in arrays]
        self._found = found[: len(self._outputs)]
        self._bound = [self._bind(*self._sets), self._bind(*self._sets[::-1])]
        self._shapes = [x.shape for x in arrays]
        return [y.copy() for y in self._found]

    def _bind(self, read: dict, written: dict) -> Any:
        bound, value = self._session.io_binding(), _onnxruntime().OrtValue.ortvalue_from_numpy
        inputs = zip(self._inputs, self._given, strict=True)
        for name, x in [*inputs, *read.items()]:
            bound.bind_ortvalue_input(name, value(x))
        outputs = zip(self._outputs, self._found, strict=True)
        for name, y in [*outputs, *((s.output, written[s.input]) for s in self._states)]:
            bound.bind_ortvalue_output(name, value(y))
        return bound

    def states(self) -> dict[str, np.ndarray]:
        """Copies, by the names of the inputs."""
        return {name: x.copy() for name, x in self._sets[0].items()}


class StreamingSession:
    """Runs a file of `export_streaming` in onnxruntime, time step by time step or in chunks.

    The states stay from call to call, so that chunks of any length, one after another, give what
    the whole sequence gives. A stream begins with zero states and its batch; `reset` begins
    another. Sessions know nothing of one another; one session serves one thread.

    Args:
        path: of the file.
        providers: list of onnxruntime's execution providers; None is the CPU.

    Attributes:
        inputs, outputs: names, states left out, in the file's order.
        timed: names of those that have a time axis.

    Raises:
        ValueError: if the file lists no states.
        ImportError: if onnxruntime is not installed.

    Example:
        >>> session = kg.StreamingSession("stream.onnx")
        >>> y = session.step(x[:, 0])      # (B, F) -> (B, U)
        >>> ys = session.chunk(x[:, 1:9])  # (B, 8, F) -> (B, 8, U)
    """

    def __init__(self, path: str | os.PathLike, *, providers: Sequence | None = None):
        self._session = _onnxruntime().InferenceSession(
            os.fspath(path), providers=list(providers or ["CPUExecutionProvider"])
        )
        self._states = _states(self._session, path)
        self._inputs = _ports(self._session.get_inputs(), {s.input for s in self._states})
        self._outputs = _ports(self._session.get_outputs(), {s.output for s in self._states})
        self.inputs = tuple(port.name for port in self._inputs)
        self.outputs = tuple(port.name for port in self._outputs)
        self.timed = {port.name for port in self._inputs + self._outputs if port.timed}
        self._batch: int | None = None  # of the stream that has begun
        self._kept = self._zeros(1)

    def step(self, inputs) -> Any:
        """Takes one time step.

        Args:
            inputs: array (B, F) or, with token indices, (B,): an input without its time axis. For
                several inputs a dictionary by name or a list; those that have no time axis as
                they are.

        Returns:
            The output without its time axis, (B, U); several in a dictionary by name.

        Raises:
            ValueError: if an input is missing, empty or of another rank, or if the batch is not
                that of the stream.
        """
        given = zip(self._inputs, self._listed(inputs), strict=True)
        arrays = [x[:, None] if port.timed and x.ndim else x for port, x in given]
        ys = self._run(arrays, step=1)
        pairs = zip(self._outputs, ys, strict=True)
        return self._packed_like_outputs([y[:, 0] if port.timed else y for port, y in pairs])

    def chunk(self, inputs) -> Any:
        """Takes some time steps, as many as there are.

        Args:
            inputs: array (B, T, F) or, with token indices, (B, T); several as in `step`.

        Returns:
            The output, (B, T, U), or (B, U) where the model gives that of the last time step
            alone; several in a dictionary by name.

        Raises:
            ValueError: as `step`.
        """
        return self._packed_like_outputs(self._run(self._listed(inputs)))

    def reset(self) -> None:
        """Sets the states to zeros: what comes next begins a new stream, of any batch."""
        self._kept = self._zeros(self._batch or 1)
        self._batch = None

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The states by the names of their inputs, (B, U) each, as copies; before the first input
        zeros of batch 1. Set, the stream goes on from them."""
        return self._kept.states()

    @state.setter
    def state(self, given: Mapping[str, Any]) -> None:
        arrays = {name: np.asarray(array) for name, array in dict(given).items()}
        batch = next((len(a) for a in arrays.values() if a.ndim), 0)
        expected = {state.input: (batch, *state.shape) for state in self._states}
        if not batch or {name: array.shape for name, array in arrays.items()} != expected:
            wanted = {state.input: ("batch", *state.shape) for state in self._states}
            raise ValueError(
                f"Argument `state` must hold these arrays, of one batch > 0: {_listing(wanted)}. "
                f"Received: {_listing({n: a.shape for n, a in arrays.items()})}. "
                "Take session.state as a pattern."
            )
        found = {s.input: np.array(arrays[s.input], s.dtype, order="C") for s in self._states}
        self._kept, self._batch = self._keep(found), batch

    # One run. This is what a time step costs beside onnxruntime, so it is kept short.

    def _run(self, arrays: list[np.ndarray], step: int = 0) -> list:
        batch = len(arrays[0]) if arrays[0].ndim else 0
        kept = self._kept if batch == self._batch else self._begun(batch)
        for port, x in zip(self._inputs, arrays, strict=True):
            if x.ndim != len(port.axes) or len(x) != batch or not x.size:
                raise ValueError(self._refusal(port, x, step))
        found = kept.run(arrays)
        self._kept, self._batch = kept, batch
        return found

    def _listed(self, inputs) -> list[np.ndarray]:
        """The inputs as arrays in the file's order."""
        if isinstance(inputs, Mapping):
            if set(inputs) != set(self.inputs):
                raise ValueError(self._wrong_inputs(list(inputs)))
            inputs = [inputs[name] for name in self.inputs]
        elif len(self._inputs) == 1 and not _is_listed(inputs):
            inputs = [inputs]
        elif not isinstance(inputs, list | tuple) or len(inputs) != len(self._inputs):
            raise ValueError(self._wrong_inputs(type(inputs).__name__))
        return [_as(x, port.dtype) for x, port in zip(inputs, self._inputs, strict=True)]

    def _packed_like_outputs(self, ys: list) -> Any:
        return ys[0] if len(ys) == 1 else dict(zip(self.outputs, ys, strict=True))

    def _keep(self, states: dict[str, np.ndarray]) -> "_Kept":
        return _Kept(self._session, self._states, (self.inputs, self.outputs), states)

    def _zeros(self, batch: int) -> "_Kept":
        return self._keep({s.input: np.zeros((batch, *s.shape), s.dtype) for s in self._states})

    def _begun(self, batch: int) -> "_Kept":
        """What a new stream of this batch begins with."""
        if self._batch is not None and batch:
            raise ValueError(
                f"Argument `inputs` must have the batch of the stream, {self._batch}: a state "
                f"belongs to each of its rows. Received: batch {batch}. Call reset() to begin "
                "another stream."
            )
        return self._zeros(batch)

    def _refusal(self, port: _Port, x: np.ndarray, step: int) -> str:
        axes, shape = list(port.axes), list(x.shape)
        if step and port.timed:
            del axes[1], shape[1:2]
        return (
            f"Argument `inputs` must hold {port.name!r} of shape ({', '.join(map(str, axes))}), "
            "no axis of length 0, the batch the same in all inputs. "
            f"Received: shape {tuple(shape)}. step() takes one time step without the time axis, "
            "chunk() takes the time axis too."
        )

    def _wrong_inputs(self, received: Any) -> str:
        return (
            f"Argument `inputs` must be one array for each of {list(self.inputs)}: in a list in "
            f"this order, or in a dictionary. Received: {received}."
        )


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "StreamingSession needs the package 'onnxruntime', which cannot be imported "
            f"({error}). Install it with: pip install onnxruntime."
        ) from error
    return onnxruntime


def _states(session: Any, path: str | os.PathLike) -> list[_State]:
    listed = session.get_modelmeta().custom_metadata_map.get(STATES)
    if not listed:
        raise ValueError(
            "Argument `path` must be of a file whose states are inputs and outputs. "
            f"Received: path={os.fspath(path)!r}, which lists none ({STATES!r} in its metadata). "
            "Write one with keras_gated.export_streaming(model, path)."
        )
    return [_State(**{**one, "shape": tuple(one["shape"])}) for one in json.loads(listed)]


def _ports(listed: Sequence, states: set[str]) -> list[_Port]:
    """The inputs or outputs that are no states; an open second axis is time."""
    ports = []
    for port in listed:
        if port.name in states:
            continue
        axes = tuple(port.shape)
        dtype = port.type.removeprefix("tensor(").removesuffix(")")
        timed = len(axes) > 1 and not isinstance(axes[1], int)
        ports.append(_Port(port.name, axes, np.dtype(DTYPES.get(dtype, dtype)), timed))
    return ports


def _is_listed(inputs: Any) -> bool:
    """Whether a list holds an array, and is not one written out in numbers."""
    return isinstance(inputs, list | tuple) and len(inputs) == 1 and hasattr(inputs[0], "shape")


def _as(x: Any, dtype: np.dtype) -> np.ndarray:
    x = np.asarray(x)
    return x if x.dtype == dtype else x.astype(dtype, casting="same_kind")


def _listing(shapes: Mapping[str, tuple]) -> str:
    return ", ".join(f"{n!r} ({', '.join(map(str, s))})" for n, s in shapes.items()) or "none"
