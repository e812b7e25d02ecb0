"""A model beside its files."""

import pytest
from keras import layers

import keras_gated as kg
from tests.onnx.helpers import U, functional


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model, its file and its file for streams."""
    model = functional(
        kg.GatedLSTM(U, return_sequences=True, name="enc"), layers.Dense(2, name="y")
    )
    folder = tmp_path_factory.mktemp("exported")
    whole, stream = str(folder / "whole.onnx"), str(folder / "stream.onnx")
    kg.export_onnx(model, whole, verify=False)
    kg.export_streaming(model, stream, verify=False)
    return model, whole, stream
