"""Export through a process on TensorFlow: what it is asked and answers, here in this process."""

import json
import sys
from dataclasses import replace

import keras
import onnx
import pytest

import keras_gated as kg
from keras_gated.onnx import subprocess_export
from tests.onnx.custom_models import (
    Shift,
    Unregistered,
    functional,
    half,
    randomize,
    register,
    small,
)
from tests.onnx.helpers import on_tensorflow


@register
class HereOnly(Shift):
    """Computes where the tests stand and not where the file is written."""

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def call(self, inputs):
        raise TypeError("tensors of another library")


@pytest.fixture
def in_process(monkeypatch):
    """The request is answered in this process."""

    def asked(folder):
        subprocess_export.answer_request(folder)
        return json.loads((folder / "answer.json").read_text())

    monkeypatch.setattr(subprocess_export, "_run_request", asked)


def exported(model, path, signature=None, modules=(), **arguments):
    return subprocess_export.export_in_subprocess(
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
    names = subprocess_export._save_model(model, tmp_path / "model.keras")
    assert names == [(Shift.__module__, "Shift"), (Shift.__module__, "Unregistered")]
    exported(model, tmp_path / "model.onnx")
    assert kg.check_onnx(model, tmp_path / "model.onnx").passed


@on_tensorflow
def test_functions_are_found_by_their_registered_name(tmp_path):
    model = small(keras.layers.Dense(3, activation=half))
    assert subprocess_export._save_model(model, tmp_path / "model.keras") == [
        (half.__module__, "half")
    ]


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
    data = json.loads(json.dumps(subprocess_export._signature_to_json(signature)))
    back = subprocess_export._signature_from_json(data)

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
