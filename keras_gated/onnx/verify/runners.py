"""Runs an ONNX file in one runtime or another: a function for each row of `onnx/runtimes.py`.

Each takes the path of a file and returns a function: inputs by name -> outputs by name. It raises
what the runtime raises, at once or when it runs.
"""

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.runtimes import RUNTIMES
from keras_gated.onnx.streaming_session import StreamingSession
from keras_gated.onnx.verify.values import Feed
from keras_gated.onnx.verify.web_process import find_web_version, open_web

Runner = Callable[[Feed], dict[str, np.ndarray]]


def open_session(path: str) -> Any:
    """Returns an onnxruntime session on one CPU thread, so that its results can be repeated."""
    (onnxruntime,) = require("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # a failure raises; it need not be printed too
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def find_version(name: str) -> str | None:
    """Returns the version of a runtime that is installed here; None if it is not."""
    if name == "onnxruntime-web":
        return find_web_version()
    try:
        (module,) = require(RUNTIMES[name].module)
    except ImportError:
        return None
    version = str(module.version() if name == "tract" else module.__version__)
    return version.partition("-")[0]  # behind it OpenVINO has the commit


def require_runtimes(names: Sequence[str]) -> dict[str, str]:
    """Returns the versions of runtimes, by name.

    Raises:
        ImportError: if one is not installed.
    """
    versions = {name: find_version(name) for name in names}
    if missing := [name for name, version in versions.items() if version is None]:
        advice = "; ".join(f"{name}: {RUNTIMES[name].install}" for name in missing)
        raise ImportError(
            "Argument `runtimes` must name runtimes that are installed here. "
            f"Received: {missing}, which {'is' if len(missing) == 1 else 'are'} not. "
            f"Install with: {advice}."
        )
    return {name: str(version) for name, version in versions.items()}


def describe_runs(names: Sequence[str], verify: bool) -> dict[str, str]:
    """Returns, for each runtime of an export, its version, or why the file was not run in it."""
    if not verify:
        return dict.fromkeys(names, "not run: verify=False")
    return {name: find_version(name) or "not run: not installed" for name in names}


def open_others(
    names: Sequence[str], path: str | os.PathLike, problems: list[str] | None = None
) -> dict[str, "Runner"]:
    """Opens a file in those runtimes, other than onnxruntime, that are installed.

    Args:
        names: of the runtimes.
        path: of the file.
        problems: where a runtime that cannot load the file is noted; None raises an ExportError.
    """
    runners = {}
    for name in names:
        if name != "onnxruntime" and find_version(name):
            try:
                runners[name] = open_in(name, os.fspath(path))
            except Exception as error:
                problem = f"{name} cannot load the file: {first_lines(error)}"
                if problems is None:
                    raise ExportError(f"{problem}. No file was written.") from error
                problems.append(problem)
    return runners


def first_lines(error: Exception) -> str:
    """Returns what an error says, without the stack of the runtime."""
    text = " ".join(re.split(r"\n\s*(Stack|stack) backtrace", str(error))[0].split())
    return text if len(text) <= 600 else f"{text[:200]} ... {text[-390:]}"


def open_in(name: str, path: str) -> Runner:
    """Opens a file in a runtime that is installed.

    Args:
        name: one of `RUNTIMES`.
        path: of the file.
    """
    return _OPENERS[name](path)


class RunnerStream:
    """A file of export_streaming in any runtime: carries the states as `StreamingSession` does.

    Args:
        session: a session of the same file; it knows the names.
        run: runs the file.
    """

    def __init__(self, session: StreamingSession, run: Runner):
        self.outputs, self.timed = session.outputs, session.timed
        self._inputs, self._run = session.inputs, run
        session.reset()
        self._zeros = self._states = session.state

    def reset(self) -> None:
        """Sets the states to zeros."""
        self._states = self._zeros

    def chunk(self, arrays: list) -> Any:
        """Runs a chunk; returns its outputs as `StreamingSession.chunk` does."""
        batch = len(arrays[0])
        states = {n: np.resize(x, (batch, *x.shape[1:])) for n, x in self._states.items()}
        results = self._run(dict(zip(self._inputs, arrays, strict=True)) | states)
        made = [results[name] for name in results if name not in self.outputs]
        self._states = dict(zip(states, made, strict=True))
        outputs = {name: results[name] for name in self.outputs}
        return outputs if len(outputs) > 1 else outputs[self.outputs[0]]


def _open_onnxruntime(path: str) -> Runner:
    session = open_session(path)
    names = [port.name for port in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(None, feed), strict=True))


def _open_reference(path: str) -> Runner:
    (reference,) = require("onnx.reference")
    evaluator = reference.ReferenceEvaluator(path)
    names = evaluator.output_names
    return lambda feed: dict(zip(names, map(np.asarray, evaluator.run(None, feed)), strict=True))


def _open_openvino(path: str) -> Runner:
    (openvino,) = require("openvino")
    # In float32: on some processors OpenVINO computes in bfloat16 otherwise.
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = openvino.compile_model(openvino.Core().read_model(path), "CPU", exact)
    names = [port.get_any_name() for port in model.outputs]

    def run(feed: Feed) -> dict[str, np.ndarray]:
        results = model(feed)
        return {name: np.array(results[k]) for k, name in enumerate(names)}

    return run


def _open_tract(path: str) -> Runner:
    tract, onnx = require("tract", "onnx")
    # tract calls outputs by the nodes that make them.
    names = [port.name for port in onnx.load(path, load_external_data=False).graph.output]

    def run(feed: Feed) -> dict[str, np.ndarray]:
        model = tract.onnx().load(path)
        arrays = []
        for k in range(model.input_count()):
            arrays.append(np.ascontiguousarray(feed[model.input_name(k)]))
            sizes = ",".join(map(str, arrays[-1].shape))
            kind = f"{arrays[-1].dtype.kind}{8 * arrays[-1].dtype.itemsize}"
            model.set_input_fact(
                k, f"{sizes},{kind}" if arrays[-1].dtype != bool else f"{sizes},bool"
            )
        results = model.into_model().into_runnable().run(arrays)
        return {name: y.to_numpy() for name, y in zip(names, results, strict=True)}

    return run


_OPENERS: dict[str, Callable[[str], Runner]] = {
    "onnxruntime": _open_onnxruntime,
    "onnx.reference": _open_reference,
    "openvino": _open_openvino,
    "onnxruntime-web": open_web,
    "tract": _open_tract,
}
