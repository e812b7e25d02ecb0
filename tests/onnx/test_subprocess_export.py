"""Export from JAX and torch, by way of a process on TensorFlow.

What that process is asked and answers is tested here on TensorFlow, without starting one; whole
exports are tested from processes on the other backends, in which this file is a module.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

import keras_gated as kg
from keras_gated.onnx import subprocess_export as elsewhere
from keras_gated.onnx.report import as_json
from tests import ROOT

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same on every backend"
)
VOCABULARY, UNITS = 11, 5
register = keras.saving.register_keras_serializable(package="tests")


@register
class Shift(keras.layers.Layer):
    """A custom layer: the other process must find it."""

    def __init__(self, by=0.25, **kwargs):
        super().__init__(**kwargs)
        self.by, self.supports_masking = by, True

    def call(self, inputs):
        return inputs + self.by

    def get_config(self):
        return super().get_config() | {"by": self.by}


@register
class Tagger(keras.Model):
    """A subclassed model, which does not know its inputs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.sequence = sequence()

    def call(self, inputs):
        x = inputs["ids"]
        for layer in self.sequence:
            x = layer(x)
        return {"tags": x}


@register
class HereOnly(Shift):
    """Computes where the tests stand and not where the file is written."""

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def call(self, inputs):
        raise TypeError("tensors of another library")


class Unregistered(Shift):
    """Keras finds it only if told."""


@register
def half(x):
    return 0.5 * x


def sequence() -> list:
    gru = kg.GatedGRU(UNITS, return_sequences=True, name="gru")
    return [
        keras.layers.Embedding(VOCABULARY, 4, mask_zero=True),
        keras.layers.Bidirectional(gru, name="both"),
        Shift(),
        kg.GatedRNN(UNITS, "mgu", name="mgu"),
        keras.layers.Dense(3, name="tags"),
    ]


def functional() -> keras.Model:
    ids = x = keras.Input((None,), dtype="int32", name="ids")
    for layer in sequence():
        x = layer(x)
    return keras.Model(ids, x)


def small(*layers) -> keras.Model:
    return keras.Sequential([keras.Input((None, 3), name="x"), *layers, kg.GatedGRU(2)])


def randomize(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights([0.5 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


# In a process on another backend ----------------------------------------------------------------


def whole_export(subclassed: bool) -> None:
    """Exports and checks; prints as JSON what it found."""
    path, (model, given, signature) = Path("model.onnx"), made(subclassed)
    ids = keras.tree.flatten(given)[0]
    expected = keras.tree.flatten(model(given))[0]
    report = exported_here(model, signature)
    (found,) = onnxruntime.InferenceSession(path).run(None, {"ids": ids})
    parity = kg.check_onnx(model, path, input_signature=signature)
    spoil(path, "spoilt.onnx")
    spoilt = kg.check_onnx(model, "spoilt.onnx", input_signature=signature)
    forward = randomize(small(Unregistered()))
    modules = [Unregistered.__module__]
    stream = kg.export_streaming(forward, "stream.onnx", modules=modules)
    int8 = kg.quantize_onnx(forward, "int8.onnx", modules=modules)
    result = {
        "backend": keras.backend.backend(),
        "report": as_json(report),
        "files": sorted(file.name for file in Path().glob("*")),
        "difference": float(np.abs(keras.ops.convert_to_numpy(expected) - found).max()),
        "parity": [parity.passed, parity.largest_difference],
        "spoilt": [spoilt.passed, *spoilt.problems],
        "stream": [*stream.inputs, *stream.outputs, stream.largest_difference],
        "int8": [node.operator for node in int8.nodes if node.quantized],
    }
    print(json.dumps(result))


def made(subclassed: bool) -> tuple:
    """A model with random weights, an input for it, and what tells its inputs."""
    ids = np.array([[4, 0, 7, 1, 2, 0, 0], [0, 0, 0, 3, 9, 10, 5]], "int32")  # 0 is masked
    signature = {"ids": keras.InputSpec(shape=(None, None), dtype="int32")} if subclassed else None
    model, given = (Tagger(), {"ids": ids}) if subclassed else (functional(), ids)
    model(given)
    return randomize(model), given, signature


def exported_here(model, signature) -> kg.ExportReport:
    arguments = {"input_signature": signature, "lowering": {"mgu": "scan"}}
    return kg.export_onnx(model, "model.onnx", **arguments)


def spoil(path, spoilt) -> None:
    """Writes the file with one weight of the dense layer changed."""
    proto = onnx.load(path)
    weight = next(w for w in proto.graph.initializer if "tags" in w.name)
    array = onnx.numpy_helper.to_array(weight).copy()
    array.flat[0] += 0.01
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(proto, spoilt)


BACKENDS = {"jax": False, "torch": True}  # whether the model is a subclassed one


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What `whole_export` printed on each backend that is installed; both run at once."""
    running = {}
    for backend, subclassed in BACKENDS.items():
        if find_spec(backend):
            code = (
                f"from tests.onnx import test_subprocess_export as t; t.whole_export({subclassed})"
            )
            running[backend] = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=tmp_path_factory.mktemp(backend),
                env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": paths()},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
    done = {backend: process.communicate() for backend, process in running.items()}
    failed = {b: done[b][1] for b, process in running.items() if process.returncode}
    assert not failed, "\n".join(failed.values())
    return {backend: json.loads(out) for backend, (out, _) in done.items()}


def paths() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, sys.path)])


@on_tensorflow
@pytest.mark.parametrize("backend", BACKENDS)
def test_from_another_backend(backend, found, tmp_path, monkeypatch):
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    result = found[backend]
    assert result["backend"] == backend
    report = result["report"]
    layers = {layer["name"].split("/")[-1]: layer["operator"] for layer in report["layers"]}
    assert layers == {"forward_gru": "GRU", "backward_gru": "GRU", "mgu": "Scan"}
    assert report["operators"]["GRU"] >= 1 and report["operators"]["Scan"] == 1
    assert "Loop" not in report["operators"]
    assert report["path"] == "model.onnx"
    monkeypatch.chdir(tmp_path)
    keras.backend.clear_session()  # unnamed layers are numbered from one, as there
    model, _, signature = made(BACKENDS[backend])
    here = as_json(exported_here(model, signature))
    # Keras's own rounding; names with numbers that tf2onnx counts up in a process.
    same = {"largest_difference": 0.0, "size": 0}
    assert report | same == json.loads(json.dumps(here)) | same
    files = ["int8.onnx", "model.onnx", "spoilt.onnx", "stream.onnx"]
    assert result["files"] == files  # no draft is left
    assert result["difference"] < 1e-5 and report["largest_difference"] < 1e-5
    passed, largest = result["parity"]
    assert passed and 0 < largest < 1e-5
    passed, problem, *_ = result["spoilt"]
    assert not passed and problem.startswith("Output 'tags' differs at ids ")
    x, state, *_, state_after, largest = result["stream"]
    assert (x, state_after) == ("x", f"{state}_out") and 0 < largest < 1e-5
    assert result["int8"] and set(result["int8"]) == {"MatMul"}


# What is asked and answered, in this process ----------------------------------------------------


@pytest.fixture
def in_process(monkeypatch):
    """The request is answered in this process."""

    def asked(folder):
        elsewhere.answer_request(folder)
        return json.loads((folder / "answer.json").read_text())

    monkeypatch.setattr(elsewhere, "_run_request", asked)


def exported(model, path, signature=None, modules=(), **arguments):
    return elsewhere.export_in_subprocess(
        kg.export_onnx, model, path, signature, modules, **arguments
    )


def fails(model, path, text, kind=kg.ExportError, **arguments):
    path.write_bytes(b"an older file")
    with pytest.raises(kind) as caught:
        exported(model, path, **arguments)
    assert all(part in str(caught.value) for part in text.split("..."))
    assert path.read_bytes() == b"an older file" and len(list(path.parent.iterdir())) == 1


@on_tensorflow
def test_the_report_returns_whole(in_process, tmp_path):
    model = randomize(functional())
    arguments = {"opset": 16, "lowering": {"mgu": "scan"}, "expected_batch": 4}
    there = exported(model, tmp_path / "there.onnx", **arguments)
    here = kg.export_onnx(model, tmp_path / "here.onnx", **arguments)
    assert there.path == str(tmp_path / "there.onnx")
    same = {"path": "", "size": 0}
    assert replace(there, **same) == replace(here, **same) and len(here.layers) == 3
    # Sizes differ by names, which hold numbers that tf2onnx counts up in a process.
    held = [onnx.load(report.path).graph.initializer for report in (there, here)]
    arrays = [[onnx.numpy_helper.to_array(tensor) for tensor in tensors] for tensors in held]
    first, second = [sorted((str(a.dtype), a.shape, a.tobytes()) for a in of) for of in arrays]
    assert first == second and len(first) > 5
    assert kg.check_onnx(model, tmp_path / "there.onnx").passed


@on_tensorflow
def test_what_a_model_is_made_of_is_found(in_process, tmp_path):
    twice = keras.layers.Lambda(lambda x: 2.0 * x)
    model = randomize(small(Unregistered(0.5), Shift(), twice))
    names = elsewhere._save_model(model, tmp_path / "model.keras")
    assert names == [(__name__, "Shift"), (__name__, "Unregistered")]
    exported(model, tmp_path / "model.onnx")
    assert kg.check_onnx(model, tmp_path / "model.onnx").passed


@on_tensorflow
def test_functions_are_found_by_their_registered_name(tmp_path):
    model = small(keras.layers.Dense(3, activation=half))
    assert elsewhere._save_model(model, tmp_path / "model.keras") == [(__name__, "half")]


@on_tensorflow
@pytest.mark.parametrize(
    "signature",
    [
        None,
        keras.KerasTensor((None, None, 3), "float32", name="x"),
        [keras.InputSpec(shape=(None, 7), dtype="int32")],
        {"a": keras.KerasTensor((2, None), "bool", name="b"), "c": (keras.InputSpec(shape=(3,)),)},
    ],
    ids=["none", "one", "list", "nested"],
)
def test_signatures_return_whole(signature):
    data = json.loads(json.dumps(elsewhere._signature_to_json(signature)))
    back = elsewhere._signature_from_json(data)

    def leaves(structure):
        flat = keras.tree.flatten(structure)
        return [(tuple(leaf.shape), leaf.dtype or "float32") for leaf in flat if leaf is not None]

    assert leaves(back) == leaves(signature)
    assert isinstance(back, dict) == isinstance(signature, dict)
    if isinstance(signature, dict):
        assert back["a"].name == "b"


@on_tensorflow
def test_errors_there_are_errors_here(in_process, tmp_path):
    path = tmp_path / "model.onnx"
    model = small(kg.GatedRNN(2, kg.CellSpec(recurrent_activation="gelu"), return_sequences=True))
    fails(model, path, "lowering='native'...Received: layer", lowering="native")
    fails(
        small(),
        path,
        "`input_signature`",
        ValueError,
        signature={"x": keras.InputSpec(shape=())},
    )
    fails(
        small(HereOnly()),
        path,
        "TensorFlow...another library",
    )
    fails(
        small(),
        path,
        "'no_such_layers'...cannot be imported",
        modules=["no_such_layers"],
    )


@on_tensorflow
def test_what_cannot_travel(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    monkeypatch.setattr(Shift, "__module__", "__main__")
    fails(small(Shift()), path, "Received: Shift, defined in the script")
    monkeypatch.undo()

    class NoConfiguration(keras.layers.Layer):
        def __init__(self, table):
            super().__init__()

        def call(self, x):
            return x

        def get_config(self):
            raise NotImplementedError("a table is no configuration")

    text = "cannot be saved...a table is no configuration"
    fails(small(NoConfiguration(object())), path, text)


@on_tensorflow
def test_a_process_that_dies(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho out of memory >&2\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    folder = tmp_path / "out"
    folder.mkdir()
    text = "TensorFlow...status 9...out of memory"
    fails(small(), folder / "model.onnx", text)


@on_tensorflow
def test_without_tensorflow(tmp_path, monkeypatch):
    model = small()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r"'tensorflow'.*\[onnx\]"):
        exported(model, tmp_path / "model.onnx")
