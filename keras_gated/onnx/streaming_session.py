"""StreamingSession: runs a file of export_streaming piece by piece and keeps its states.

This file imports only NumPy and onnxruntime. On a device without Keras, a copy of it is enough.
"""

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Keys of a file's metadata: the list of its states, and the number of time steps of which the
# length of a chunk must be a multiple, if that is not 1.
STATES, STRIDE = "keras_gated.states", "keras_gated.stride"
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
        self.shapes: list | None = None  # of the inputs, once there are buffers for them

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Runs the file on inputs; returns the outputs. If it fails, the states do not change."""
        if [x.shape for x in arrays] != self.shapes:
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
        self.shapes = [x.shape for x in arrays]
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

    def set_to_zero(self, rows: np.ndarray) -> None:
        """Sets the states of some rows of the batch to zeros."""
        for x in self._sets[0].values():
            x[rows] = 0


class StreamingSession:
    """Runs a file of `export_streaming` in onnxruntime, step by step or in chunks.

    The session keeps the states from call to call. Chunks of any length, one after another, give
    what the whole sequence gives. The first call sets the batch of the stream, and the states begin
    with zeros; `reset` ends the stream, and the next call begins another.

    For many streams, load the file once. If they run at times of their own, `stream` returns a
    further stream over the same onnxruntime.InferenceSession. If they run together, each is a row
    of the batch of one stream, which takes less time; `reset(rows)` begins some rows anew.

    Streams are independent of each other. Different streams may run in different threads at the
    same time; use each in one thread at a time.

    Args:
        path: of the file.
        session_options: onnxruntime.SessionOptions, e.g. with the number of threads. None means
            onnxruntime's default: a thread for each core.
        providers: list of onnxruntime's execution providers, names or pairs (name, options). None
            means the CPU.

    Attributes:
        inputs, outputs: names in the file's order, without the states.
        timed: names of the inputs and outputs that have a time axis.
        stride: int. The length of each chunk must be a multiple of it. It is 1 unless a layer of
            the model, such as a convolution, has strides.

    Raises:
        ValueError: if the file cannot be loaded or lists no states, or if an argument has a wrong
            value.
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
        >>> other = session.stream()        # with states of its own
        >>> np.allclose(other.step(x[:, 0]), y)
        True
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        session_options: Any = None,
        providers: Sequence | None = None,
    ):
        self._session = _load(path, session_options, providers)
        self._states, self.stride = _read_metadata(self._session, path)
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
            ValueError: if an input is missing, is empty or has the wrong shape, if the batch is
                not the batch of the stream, or if the length is no multiple of `stride`.
            TypeError: if an input cannot be cast to the dtype of the file's.
        """
        pairs = zip(self._inputs, self._as_arrays(inputs), strict=True)
        arrays = [x[:, None] if port.timed and x.ndim else x for port, x in pairs]
        ys = self._run(arrays, is_step=True)
        pairs = zip(self._outputs, ys, strict=True)
        return self._pack_outputs([y[:, 0] if port.timed else y for port, y in pairs])

    def chunk(self, inputs, *, resets: Any = None) -> Any:
        """Runs a chunk of any number of time steps, or of a multiple of `stride`.

        Args:
            inputs: array (B, T, F), or (B, T) for token indices; several inputs as in `step`.
            resets: bool array (B, T), True where a row begins anew, as by `reset(rows)` before that
                time step; or None. The file runs once for each piece between two such steps.

        Returns:
            The output, (B, T, U), or (B, U) if the model returns the last time step only. Several
            outputs are in a dictionary by name.

        Raises:
            ValueError, TypeError: as in `step`; a ValueError if `resets` does not fit.
        """
        arrays = self._as_arrays(inputs)
        if resets is None:
            return self._pack_outputs(self._run(arrays))
        return self._pack_outputs(self._run_with_resets(arrays, resets))

    def reset(self, rows: Any = None) -> None:
        """Sets the states to zeros, of all rows of the batch or of some.

        Args:
            rows: None ends the stream; the next call begins another, of any batch. Otherwise the
                rows of the batch that begin anew, as NumPy takes an index: an integer, a list of
                integers, a boolean array (B,) or a slice. The other rows go on.

        Raises:
            ValueError: if there are no such rows.
        """
        if rows is None:
            self._buffers, self._batch = self._zero_buffers(self._batch or 1), None
            return
        try:
            chosen = np.arange(self._batch or 0)[rows]
        except (IndexError, ValueError, TypeError) as error:
            raise ValueError(
                "Argument `rows` must be an index of rows of the batch, such as 3, [0, 2] or a "
                f"boolean array, in a stream of batch {self._batch or 'not yet known'}. "
                f"Received: rows={_short(rows)}. Call reset() to begin all of them anew."
            ) from error
        self._buffers.set_to_zero(chosen)

    def stream(self) -> "StreamingSession":
        """Returns another stream over the same loaded file; its states begin with zeros.

        It has the weights, memory and threads of the onnxruntime.InferenceSession in common with
        this one, and states, buffers and a batch of its own.
        """
        other = copy.copy(self)
        other.reset()
        return other

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The states, a row for each row of the batch, as copies, by the names of their inputs.

        Before the first call they are zeros of batch 1. Assign a dictionary of the same form to
        continue the stream from other states.
        """
        return self._buffers.states()

    @state.setter
    def state(self, value: Mapping[str, Any]) -> None:
        if not isinstance(value, Mapping):
            raise ValueError(self._state_error(type(value).__name__))
        dtypes = {state.input: np.dtype(state.dtype) for state in self._states}
        if set(value) != set(dtypes):
            raise ValueError(self._state_error(list(value)))
        arrays = {n: _cast(value[n], dtype, n, "state") for n, dtype in dtypes.items()}
        batch = next((len(a) for a in arrays.values() if a.ndim), 0)
        expected = {state.input: (batch, *state.shape) for state in self._states}
        if not batch or {name: array.shape for name, array in arrays.items()} != expected:
            shapes = {n: a.shape for n, a in arrays.items()}
            raise ValueError(self._state_error(_format_shapes(shapes)))
        first = {name: np.array(array, order="C") for name, array in arrays.items()}
        self._buffers, self._batch = self._make_buffers(first), batch

    # One run. For a small model this costs as much as onnxruntime itself, so it does little.

    def _run(self, arrays: list[np.ndarray], is_step: bool = False) -> list:
        batch = len(arrays[0]) if arrays[0].ndim else 0
        buffers = self._buffers if batch == self._batch else self._start_stream(batch)
        if [x.shape for x in arrays] != buffers.shapes:
            for port, x in zip(self._inputs, arrays, strict=True):
                self._check_shape(port, x, batch, is_step)
        results = buffers.run(arrays)
        # Set only now: a call that raises neither begins a stream nor sets its batch.
        self._buffers, self._batch = buffers, batch
        return results

    def _run_with_resets(self, arrays: list[np.ndarray], resets: Any) -> list:
        """Runs a chunk in pieces, each of which ends where a row begins anew."""
        resets = self._checked_resets(arrays, resets)
        time, before, batch = resets.shape[1], self.state, self._batch
        begins = np.flatnonzero(resets.any(axis=0)).tolist()
        edges, runs = sorted({0, *begins, time}), []
        try:
            for begin, end in zip(edges, edges[1:], strict=False):
                if self._batch is not None:  # else the stream begins with zeros
                    self.reset(resets[:, begin])
                pairs = zip(self._inputs, arrays, strict=True)
                runs.append(self._run([x[:, begin:end] if p.timed else x for p, x in pairs]))
        except Exception:  # a call that raises changes no state
            self._buffers, self._batch = self._make_buffers(before), batch
            raise
        return [
            np.concatenate(pieces, axis=1) if port.timed else pieces[-1]
            for port, pieces in zip(self._outputs, zip(*runs, strict=True), strict=True)
        ]

    def _checked_resets(self, arrays: list[np.ndarray], resets: Any) -> np.ndarray:
        """Returns `resets` as a bool array; raises if it or a shape of the inputs does not fit."""
        batch = len(arrays[0]) if arrays[0].ndim else 0
        if batch != self._batch:
            self._start_stream(batch)
        for port, x in zip(self._inputs, arrays, strict=True):
            self._check_shape(port, x, batch, is_step=False)
        time = next(x.shape[1] for p, x in zip(self._inputs, arrays, strict=True) if p.timed)
        resets = np.asarray(resets)
        if resets.shape != (batch, time) or resets.dtype.kind not in "biu":
            raise ValueError(
                f"Argument `resets` must be a bool array (B, T), here ({batch}, {time}): for each "
                "time step of the chunk, whether its row begins anew. "
                f"Received: shape {resets.shape}, dtype {resets.dtype}. "
                "Make it with numpy.zeros, and set it to True where a row begins."
            )
        resets = resets.astype(bool)
        begins = np.flatnonzero(resets.any(axis=0))
        if (begins % self.stride).any():
            raise ValueError(
                f"Argument `resets` must be True only at multiples of {self.stride} time steps: "
                f"layers of the model have strides. Received: True at time steps "
                f"{begins.tolist()}. Begin sequences at a multiple, e.g. behind some padding."
            )
        return resets

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
        pairs = zip(inputs, self._inputs, strict=True)
        return [_cast(x, port.dtype, port.name, "inputs") for x, port in pairs]

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

    def _check_shape(self, port: _Port, x: np.ndarray, batch: int, is_step: bool) -> None:
        """Raises a ValueError if an input has a wrong shape or its length does not fit `stride`."""
        axes, shape = list(port.axes), list(x.shape)
        if x.ndim == len(axes) and port.timed and x.shape[1] % self.stride:
            raise ValueError(
                f"Argument `inputs` must hold {port.name!r} with a multiple of {self.stride} time "
                "steps: layers of the model have strides. "
                f"Received: {x.shape[1]} time steps. "
                f"Call chunk() with {self.stride} time steps or a multiple of it."
            )
        fits = [
            isinstance(n, str) or n is None or n == k for n, k in zip(axes, shape, strict=False)
        ]
        if len(axes) == len(shape) and len(x) == batch and x.size and all(fits):
            return
        if is_step and port.timed:  # say it without the time axis, as the caller passed it
            del axes[1], shape[1:2]
        raise ValueError(
            f"Argument `inputs` must hold {port.name!r} of shape ({', '.join(map(str, axes))}), "
            "with no axis of length 0 and with the same batch in all inputs. "
            f"Received: shape {tuple(shape)}. step() takes one time step without the time axis; "
            "chunk() takes the time axis too."
        )

    def _state_error(self, received: Any) -> str:
        shapes = {state.input: ("batch", *state.shape) for state in self._states}
        return (
            "Argument `state` must be a dictionary of these arrays, all of the same batch > 0: "
            f"{_format_shapes(shapes)}. Received: {received}. Take session.state as a pattern, or "
            "call reset() for zeros."
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


def _load(path: Any, options: Any, providers: Any) -> Any:
    """Returns an onnxruntime.InferenceSession; raises a ValueError if that is not possible."""
    onnxruntime = _onnxruntime()
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str) or not os.path.isfile(name):
        raise ValueError(
            "Argument `path` must be a str or os.PathLike, the path of a file that exists. "
            f"Received: path={_short(path)}. Write a file with "
            "keras_gated.export_streaming(model, path)."
        )
    if not isinstance(options, onnxruntime.SessionOptions | None):
        raise ValueError(
            "Argument `session_options` must be an onnxruntime.SessionOptions. "
            f"Received: session_options={_short(options)}. Set its attributes, e.g. "
            "intra_op_num_threads = 1."
        )
    wanted = ["CPUExecutionProvider"] if providers is None else providers
    available = onnxruntime.get_available_providers()
    listed = isinstance(wanted, list | tuple) and len(wanted) > 0
    names = [p[0] if isinstance(p, tuple) and p else p for p in wanted] if listed else [None]
    if not all(p in available for p in names):  # onnxruntime would use the CPU
        raise ValueError(
            "Argument `providers` must be a list of names, or of pairs (name, options), that the "
            f"installed onnxruntime has: {available}. "
            f"Received: providers={_short(providers)}. Leave it out to run on the CPU."
        )
    try:
        return onnxruntime.InferenceSession(name, options, providers=list(wanted))
    except Exception as error:
        raise ValueError(
            "Argument `path` must be the path of an ONNX file that onnxruntime can load. "
            f"Received: path={_short(path)}, of {os.path.getsize(name)} bytes, which onnxruntime "
            f"{onnxruntime.__version__} cannot ({type(error).__name__}). If the file is damaged or "
            "incomplete, copy it again as a binary file, or write it again with "
            "keras_gated.export_streaming(model, path). A newer file needs a newer onnxruntime."
        ) from error


def _read_metadata(session: Any, path: Any) -> tuple[list[_State], int]:
    """Returns the states and the stride that the file's metadata hold."""
    metadata = session.get_modelmeta().custom_metadata_map
    inputs = {port.name: (tuple(port.shape[1:]), _dtype(port)) for port in session.get_inputs()}
    outputs = {port.name for port in session.get_outputs()}
    try:
        states = [
            _State(one["input"], one["output"], tuple(one["shape"]), one["dtype"])
            for one in json.loads(metadata.get(STATES, "[]"))
        ]
        known = [inputs[s.input] == (s.shape, s.dtype) and s.output in outputs for s in states]
        stride = int(metadata.get(STRIDE, "1"))
    except (ValueError, TypeError, KeyError):
        states, known, stride = [], [], 0
    if states and all(known) and stride > 0:
        return states, stride
    what = "are not those of its inputs and outputs" if STATES in metadata else "are missing"
    raise ValueError(
        "Argument `path` must be the path of a file whose states are inputs and outputs. "
        f"Received: path={_short(path)}, where the states ({STATES!r} in its metadata) {what}. "
        "Write one with keras_gated.export_streaming(model, path)."
    )


def _ports(listed: Sequence, states: set[str]) -> list[_Port]:
    """Returns the inputs or outputs that are no states. An open second axis is time."""
    ports = []
    for port in listed:
        if port.name in states:
            continue
        axes = tuple(port.shape)
        timed = len(axes) > 1 and not isinstance(axes[1], int)
        ports.append(_Port(port.name, axes, np.dtype(_dtype(port)), timed))
    return ports


def _dtype(port: Any) -> str:
    """Returns NumPy's name of the dtype of an input or output."""
    dtype: str = port.type.removeprefix("tensor(").removesuffix(")")
    return DTYPES.get(dtype, dtype)


def _is_list_of_one_array(inputs: Any) -> bool:
    """Whether `inputs` is [array], and not an array written as a list of numbers."""
    return isinstance(inputs, list | tuple) and len(inputs) == 1 and hasattr(inputs[0], "shape")


def _cast(value: Any, dtype: np.dtype, name: str, argument: str) -> np.ndarray:
    try:
        x = np.asarray(value)
        return x if x.dtype == dtype else x.astype(dtype, casting="same_kind")
    except (TypeError, ValueError) as error:
        received = getattr(value, "dtype", None) or _short(value)
        raise TypeError(
            f"Argument `{argument}` must hold {name!r} as an array that can be cast to {dtype}. "
            f"Received: {received}. Convert it with numpy.asarray(..., dtype={dtype.name!r})."
        ) from error


def _short(value: Any) -> str:
    text = repr(os.fspath(value) if isinstance(value, os.PathLike) else value)
    return text if len(text) < 200 else f"{text[:100]}...{text[-60:]}"


def _format_shapes(shapes: Mapping[str, tuple]) -> str:
    return ", ".join(f"{n!r} ({', '.join(map(str, s))})" for n, s in shapes.items()) or "none"
