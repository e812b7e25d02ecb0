"""Models of more than 2 GB, which have their weights in a second file; here the limit is lower."""

import os
import shutil

import keras
import numpy as np
import onnx
import pytest

import keras_gated as kg
from keras_gated.cli.main import main
from keras_gated.onnx import model_file
from keras_gated.onnx.errors import ExportError
from tests.onnx.helpers import on_tensorflow, randomized
from tests.onnx.streams import assert_streams

pytestmark = on_tensorflow


@pytest.fixture(autouse=True)
def low_limit(monkeypatch):
    monkeypatch.setattr(model_file, "LARGEST_FILE", 1000)


def some_model(seed=0):
    lstm = kg.GatedLSTM(16, return_sequences=True, name="lstm")
    model = keras.Sequential([keras.Input((None, 8)), lstm, keras.layers.Dense(20, name="dense")])
    return randomized(model, seed)


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


def test_two_files_that_every_reader_takes(tmp_path):
    model, path = some_model(), tmp_path / "model.onnx"
    report = kg.export_onnx(model, path)
    assert report.largest_difference < 1e-5
    assert names(tmp_path) == ["model.onnx", "model.onnx.data"]
    assert report.size == sum((tmp_path / name).stat().st_size for name in names(tmp_path))
    assert path.stat().st_size < 4000 < report.size
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in names(tmp_path)[:1] + ["model.onnx.data"]:
        shutil.move(tmp_path / name, moved / name)
    assert kg.check_onnx(model, moved / "model.onnx").passed
    x = np.random.default_rng(0).standard_normal((2, 6, 8)).astype("float32")
    int8 = kg.quantize_onnx(moved / "model.onnx", tmp_path / "int8.onnx", samples=x)
    assert not int8.left_in_float32 and int8.size_before == report.size
    assert names(tmp_path) == ["int8.onnx", "int8.onnx.data", "moved"]


def test_a_stream(tmp_path):
    path = tmp_path / "stream.onnx"
    model = some_model()
    kg.export_streaming(model, path)
    assert names(tmp_path) == ["stream.onnx", "stream.onnx.data"]
    x = np.random.default_rng(0).standard_normal((2, 6, 8)).astype("float32")
    assert_streams(model, path, x, [1, 5], [6])


def planted_failure(*_, **__):
    raise ExportError("planted")


def test_both_files_are_replaced_or_none(tmp_path, monkeypatch):
    path, model = tmp_path / "model.onnx", some_model()
    kg.export_onnx(model, path)
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1
    path.chmod(0o640)
    before = [file.read_bytes() for file in sorted(tmp_path.iterdir())]
    with pytest.raises(ExportError), monkeypatch.context() as patch:
        patch.setattr("keras_gated.onnx.export.check_onnx", planted_failure)
        kg.export_onnx(some_model(1), path)
    assert [file.read_bytes() for file in sorted(tmp_path.iterdir())] == before
    kg.export_onnx(some_model(1), path)
    assert kg.check_onnx(some_model(1), path).passed and not kg.check_onnx(model, path).passed
    assert names(tmp_path) == ["model.onnx", "model.onnx.data"]
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o640}


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    some_model().save("model.keras")
    assert main(["export", "model.keras", "model.onnx"]) == 0
    assert main(["check", "model.keras", "model.onnx"]) == 0
    assert {"model.onnx", "model.onnx.data"} <= set(names(tmp_path))


def test_without_the_second_file(tmp_path):
    model, path = some_model(), tmp_path / "model.onnx"
    kg.export_onnx(model, path)
    (tmp_path / "model.onnx.data").unlink()
    (problem,) = kg.check_onnx(model, path).problems
    assert "model.onnx.data" in problem
    with pytest.raises(ValueError, match="`model`.*file of its weights.*model.onnx"):
        kg.quantize_onnx(path, tmp_path / "int8.onnx")


def test_small_models_stay_in_one_file(tmp_path, monkeypatch):
    monkeypatch.undo()
    kg.export_onnx(some_model(), tmp_path / "model.onnx")
    assert names(tmp_path) == ["model.onnx"]
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"))
