"""StreamingSession: runs a file of export_streaming piece by piece and keeps its states.

This file imports only NumPy and onnxruntime. On a device without Keras, a copy of it is enough.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STATES = "keras_gated.states"  # the metadata key under which a file lists its states
DTYPES = {"float": "float32", "double": "float64"}  # where ONNX's name is not NumPy's


@dataclass(frozen=True)
class _Port:
    """An input or output that is no state.

    Attributes:
        name: in the file.
        axes: the size of each axis, or the name of an open one.
        dtype: NumPy's.
        timed: whether the second axis is open, which means that it is time.
    """

    name: str
    axes: tuple[int | str, ...]
    dtype: np.dtype
    timed: bool


@dataclass(frozen=True)
class _State:
    """A state: names of the input and output that carry it; its shape without the batch."""

    input: str
    output: str
    shape: tuple[int, ...]
    dtype: str


class _StateBuffers:
    """The states of one stream, in memory that onnxruntime reads and writes in place.

    There are two sets of states. A run reads one set and writes the other; then they change roles.
    So no state is copied, and a run that fails has not overwritten the states that it began with.

    Inputs and outputs have buffers as well, which all runs with the same shapes use. For a small
    model, passing new arrays to onnxruntime takes longer than the computation.

    Args:
        session: onnxruntime.InferenceSession.
        states: the file's states.
        ports: names of the inputs, and names of the outputs, without the states.
        first: {input name: array}, the states to begin with. The arrays become buffers: nobody
            else may change them, and they must be in C order. From an array in another order
            onnxruntime makes a copy, and would write the new states there.
    """

    def __init__(self, session: Any, states: list[_State], ports: tuple, first: dict):
        self._session, self._states, (self._inputs, self._outputs) = session, states, ports
        self._sets = [first]  # the first run adds the second set
        self._shapes: list | None = None  # of the inputs, once there are buffers for them

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Runs the file on inputs; returns the outputs. If it fails, the states do not change."""
        if [x.shape for x in arrays] != self._shapes:
            return self._run_first(arrays)
        for buffer, x in zip(self._input_buffers, arrays, strict=True):
            buffer[...] = x
        self._session.run_with_iobinding(self._bound[0])
        self._bound.reverse()
        self._sets.reverse()
        # Copies, for the next run writes to the same buffers.
        return [y.copy() for y in self._output_buffers]

    def _run_first(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Runs without buffers, which shows the shapes of the outputs; then makes the buffers."""
        feed = {**self._sets[0], **dict(zip(self._inputs, arrays, strict=True))}
        wanted = [*self._outputs, *(state.output for state in self._states)]
        results = self._session.run(wanted, feed)
        new_states = zip(self._states, results[len(self._outputs) :], strict=True)
        self._sets = [{s.input: x for s, x in new_states}, self._sets[0]]
        self._input_buffers = [np.array(x, order="C") for x in arrays]
        self._output_buffers = results[: len(self._outputs)]
        # One binding reads the first set and writes the second, the other the other way round.
        self._bound = [self._bind(*self._sets), self._bind(*self._sets[::-1])]
        self._shapes = [x.shape for x in arrays]
        return [y.copy() for y in self._output_buffers]

    def _bind(self, read: dict, written: dict) -> Any:
        """Returns an onnxruntime binding that reads one set of states and writes the other."""
        bound, value = self._session.io_binding(), _onnxruntime().OrtValue.ortvalue_from_numpy
        inputs = zip(self._inputs, self._input_buffers, strict=True)
        for name, x in [*inputs, *read.items()]:
            bound.bind_ortvalue_input(name, value(x))
        outputs = zip(self._outputs, self._output_buffers, strict=True)
        for name, y in [*outputs, *((s.output, written[s.input]) for s in self._states)]:
            bound.bind_ortvalue_output(name, value(y))
        return bound

    def states(self) -> dict[str, np.ndarray]:
        """Returns copies of the states, by the names of their inputs."""
        return {name: x.copy() for name, x in self._sets[0].items()}


class StreamingSession:
    """Runs a file of `export_streaming` in onnxruntime, step by step or in chunks.

    The session keeps the states from call to call. Chunks of any length, one after another, give
    what the whole sequence gives. The first call sets the batch of the stream, and the states begin
    with zeros; `reset` ends the stream, and the next call begins another. Sessions are independent
    of each other. Use a session in one thread at a time.

    Args:
        path: of the file.
        providers: list of onnxruntime's execution providers. None means the CPU.

    Attributes:
        inputs, outputs: names in the file's order, without the states.
        timed: names of the inputs and outputs that have a time axis.

    Raises:
        ValueError: if the file lists no states.
        ImportError: if onnxruntime is not installed.

    Example:
        >>> layer = kg.GatedGRU(4, return_sequences=True, name="gru")
        >>> model = keras.Sequential([keras.Input((None, 3)), layer])
        >>> report = kg.export_streaming(model, "stream.onnx")
        >>> session = kg.StreamingSession("stream.onnx")
        >>> x = np.random.default_rng(0).normal(size=(2, 9, 3)).astype("float32")
        >>> y = session.step(x[:, 0])       # (B, F) -> (B, U)
        >>> ys = session.chunk(x[:, 1:])    # (B, 8, F) -> (B, 8, U)
        >>> whole = model.predict(x, verbose=0)
        >>> np.allclose(y, whole[:, 0], atol=1e-5), np.allclose(ys, whole[:, 1:], atol=1e-5)
        (True, True)
    """

    def __init__(self, path: str | os.PathLike, *, providers: Sequence | None = None):
        self._session = _onnxruntime().InferenceSession(
            os.fspath(path), providers=list(providers or ["CPUExecutionProvider"])
        )
        self._states = _read_states(self._session, path)
        self._inputs = _ports(self._session.get_inputs(), {s.input for s in self._states})
        self._outputs = _ports(self._session.get_outputs(), {s.output for s in self._states})
        self.inputs = tuple(port.name for port in self._inputs)
        self.outputs = tuple(port.name for port in self._outputs)
        self.timed = {port.name for port in self._inputs + self._outputs if port.timed}
        self._batch: int | None = None  # None until the stream's first call
        self._buffers = self._zero_buffers(1)

    def step(self, inputs) -> Any:
        """Runs one time step.

        Args:
            inputs: array (B, F), or (B,) for token indices: the input without its time axis. If
                the model has several inputs, a dictionary by name or a list; inputs that have no
                time axis are passed as they are.

        Returns:
            The output without its time axis, (B, U). Several outputs are in a dictionary by name.

        Raises:
            ValueError: if an input is missing, is empty or has the wrong rank, or if the batch is
                not the batch of the stream.
        """
        pairs = zip(self._inputs, self._as_arrays(inputs), strict=True)
        arrays = [x[:, None] if port.timed and x.ndim else x for port, x in pairs]
        ys = self._run(arrays, is_step=True)
        pairs = zip(self._outputs, ys, strict=True)
        return self._pack_outputs([y[:, 0] if port.timed else y for port, y in pairs])

    def chunk(self, inputs) -> Any:
        """Runs a chunk of any number of time steps.

        Args:
            inputs: array (B, T, F), or (B, T) for token indices; several inputs as in `step`.

        Returns:
            The output, (B, T, U), or (B, U) if the model returns the last time step only. Several
            outputs are in a dictionary by name.

        Raises:
            ValueError: as in `step`.
        """
        return self._pack_outputs(self._run(self._as_arrays(inputs)))

    def reset(self) -> None:
        """Sets the states to zeros. The next call begins a new stream, of any batch."""
        self._buffers = self._zero_buffers(self._batch or 1)
        self._batch = None

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The states, (B, U) each, as copies, by the names of their inputs.

        Before the first call they are zeros of batch 1. Assign a dictionary of the same form to
        continue the stream from other states.
        """
        return self._buffers.states()

    @state.setter
    def state(self, value: Mapping[str, Any]) -> None:
        arrays = {name: np.asarray(array) for name, array in dict(value).items()}
        batch = next((len(a) for a in arrays.values() if a.ndim), 0)
        expected = {state.input: (batch, *state.shape) for state in self._states}
        if not batch or {name: array.shape for name, array in arrays.items()} != expected:
            shapes = {state.input: ("batch", *state.shape) for state in self._states}
            raise ValueError(
                "Argument `state` must hold these arrays, all of the same batch > 0: "
                f"{_format_shapes(shapes)}. "
                f"Received: {_format_shapes({n: a.shape for n, a in arrays.items()})}. "
                "Take session.state as a pattern."
            )
        first = {s.input: np.array(arrays[s.input], s.dtype, order="C") for s in self._states}
        self._buffers, self._batch = self._make_buffers(first), batch

    # One run. For a small model this costs as much as onnxruntime itself, so it does little.

    def _run(self, arrays: list[np.ndarray], is_step: bool = False) -> list:
        batch = len(arrays[0]) if arrays[0].ndim else 0
        buffers = self._buffers if batch == self._batch else self._start_stream(batch)
        for port, x in zip(self._inputs, arrays, strict=True):
            if x.ndim != len(port.axes) or len(x) != batch or not x.size:
                raise ValueError(self._shape_error(port, x, is_step))
        results = buffers.run(arrays)
        # Set only now: a call that raises neither begins a stream nor sets its batch.
        self._buffers, self._batch = buffers, batch
        return results

    def _as_arrays(self, inputs) -> list[np.ndarray]:
        """Returns the inputs as arrays in the file's order."""
        if isinstance(inputs, Mapping):
            if set(inputs) != set(self.inputs):
                raise ValueError(self._inputs_error(list(inputs)))
            inputs = [inputs[name] for name in self.inputs]
        elif len(self._inputs) == 1 and not _is_list_of_one_array(inputs):
            inputs = [inputs]
        elif not isinstance(inputs, list | tuple) or len(inputs) != len(self._inputs):
            raise ValueError(self._inputs_error(type(inputs).__name__))
        return [_cast(x, port.dtype) for x, port in zip(inputs, self._inputs, strict=True)]

    def _pack_outputs(self, ys: list) -> Any:
        return ys[0] if len(ys) == 1 else dict(zip(self.outputs, ys, strict=True))

    def _make_buffers(self, states: dict[str, np.ndarray]) -> "_StateBuffers":
        return _StateBuffers(self._session, self._states, (self.inputs, self.outputs), states)

    def _zero_buffers(self, batch: int) -> "_StateBuffers":
        zeros = {s.input: np.zeros((batch, *s.shape), s.dtype) for s in self._states}
        return self._make_buffers(zeros)

    def _start_stream(self, batch: int) -> "_StateBuffers":
        """Returns zero states for a new stream; raises if a stream of another batch is running."""
        if self._batch is not None and batch:
            raise ValueError(
                f"Argument `inputs` must have the batch of the stream, {self._batch}: each row of "
                f"the batch has a state. Received: batch {batch}. Call reset() to begin another "
                "stream."
            )
        return self._zero_buffers(batch)

    def _shape_error(self, port: _Port, x: np.ndarray, is_step: bool) -> str:
        axes, shape = list(port.axes), list(x.shape)
        if is_step and port.timed:  # say it without the time axis, as the caller passed it
            del axes[1], shape[1:2]
        return (
            f"Argument `inputs` must hold {port.name!r} of shape ({', '.join(map(str, axes))}), "
            "with no axis of length 0 and with the same batch in all inputs. "
            f"Received: shape {tuple(shape)}. step() takes one time step without the time axis; "
            "chunk() takes the time axis too."
        )

    def _inputs_error(self, received: Any) -> str:
        return (
            f"Argument `inputs` must be one array for each of {list(self.inputs)}, in a list in "
            f"this order or in a dictionary. Received: {received}."
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


def _read_states(session: Any, path: str | os.PathLike) -> list[_State]:
    """Reads the states from the file's metadata."""
    listed = session.get_modelmeta().custom_metadata_map.get(STATES)
    if not listed:
        raise ValueError(
            "Argument `path` must be the path of a file whose states are inputs and outputs. "
            f"Received: path={os.fspath(path)!r}, which lists none ({STATES!r} in its metadata). "
            "Write one with keras_gated.export_streaming(model, path)."
        )
    return [_State(**{**one, "shape": tuple(one["shape"])}) for one in json.loads(listed)]


def _ports(listed: Sequence, states: set[str]) -> list[_Port]:
    """Returns the inputs or outputs that are no states. An open second axis is time."""
    ports = []
    for port in listed:
        if port.name in states:
            continue
        axes = tuple(port.shape)
        dtype = port.type.removeprefix("tensor(").removesuffix(")")
        timed = len(axes) > 1 and not isinstance(axes[1], int)
        ports.append(_Port(port.name, axes, np.dtype(DTYPES.get(dtype, dtype)), timed))
    return ports


def _is_list_of_one_array(inputs: Any) -> bool:
    """Whether `inputs` is [array], and not an array written as a list of numbers."""
    return isinstance(inputs, list | tuple) and len(inputs) == 1 and hasattr(inputs[0], "shape")


def _cast(x: Any, dtype: np.dtype) -> np.ndarray:
    x = np.asarray(x)
    return x if x.dtype == dtype else x.astype(dtype, casting="same_kind")


def _format_shapes(shapes: Mapping[str, tuple]) -> str:
    return ", ".join(f"{n!r} ({', '.join(map(str, s))})" for n, s in shapes.items()) or "none"
