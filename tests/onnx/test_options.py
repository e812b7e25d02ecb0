"""Options of a cell in ONNX: merged into an operator's weights, or a Scan."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import BACKEND, F, U
from tests.layers.helpers import P


def exported(path, layer, **options):
    model = keras.Sequential([keras.Input((None, F), name="x"), layer])
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(np.abs(weight) + 0.4 * np.abs(rng.normal(size=weight.shape)))
    report = kg.export_onnx(model, path, **options)
    assert report.largest_difference < 1e-5
    return report.layers[0], report


LEAVES = {  # layer, operator, what the reason says
    "layer norm": (lambda: kg.GatedLSTM(U, layer_norm=True), "Scan", "layer_norm=True"),
    "batch norm": (
        lambda: kg.GatedRNN(U, "li_gru", batch_norm=True),
        "GRU",
        "batch_norm folded into its weights",
    ),
    "batch norm, gates outside": (
        lambda: kg.GatedRNN(U, "qrnn_fo", batch_norm=True),
        "LSTM",
        "batch_norm folded into its weights",
    ),
    "projection": (
        lambda: kg.GatedLSTM(U, projection_units=P, return_sequences=True),
        "LSTM",
        "projection_units as a matrix product after it",
    ),
    "projection, peepholes, backwards": (
        lambda: kg.GatedLSTM(U, projection_units=P, peephole=True, go_backwards=True),
        "LSTM",
        "projection_units as a matrix product after it",
    ),
    "candidate dropout": (lambda: kg.GatedLSTM(U, candidate_dropout=0.5), "LSTM", "two states"),
}


on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="the export runs on TensorFlow")


@pytest.mark.sampled(3)
@on_tensorflow
@pytest.mark.parametrize("key", LEAVES)
def test_each_leaves_as_exactly_as_it_can(key, tmp_path):
    layer, operator, reason = LEAVES[key]
    row, _ = exported(tmp_path / "model.onnx", layer(), lowering="auto")
    assert row.operator == operator and reason in row.reason, row


@on_tensorflow
@pytest.mark.parametrize("given", [{"projection_units": P}, {"batch_norm": True}], ids=str)
def test_both_directions_are_one_node(given, tmp_path):
    both = keras.layers.Bidirectional(kg.GatedLSTM(U, return_sequences=True, **given))
    _, report = exported(tmp_path / "model.onnx", both)
    assert report.operators["LSTM"] == 1


@on_tensorflow
def test_a_state_behind_a_projection_needs_a_scan(tmp_path):
    x, h, c = (
        keras.Input(shape, name=n) for shape, n in (((None, F), "x"), ((P,), "h"), ((U,), "c"))
    )
    layer = kg.GatedLSTM(U, projection_units=P)
    model = keras.Model([x, h, c], layer(x, initial_state=[h, c]))
    report = kg.export_onnx(model, tmp_path / "model.onnx")
    row = report.layers[0]
    assert (
        row.operator == "Scan"
        and "with projection_units, no operator takes an initial state" in row.reason
    )
    stream = keras.Sequential([keras.Input((None, F)), kg.GatedLSTM(U, projection_units=P)])
    kg.export_streaming(stream, tmp_path / "stream.onnx")
    shapes = {k: v.shape for k, v in kg.StreamingSession(tmp_path / "stream.onnx").state.items()}
    assert sorted(shapes.values()) == [(1, P), (1, U)]


@pytest.mark.sampled(1)
@pytest.mark.skipif(BACKEND != "tensorflow", reason="the export runs on TensorFlow")
@pytest.mark.parametrize(
    ("options", "reason"),
    [({"zoneout": 0.2}, "zoneout=0.2"), ({"state_clip": 0.3}, "state_clip=0.3"), ({}, None)],
)
def test_what_acts_at_inference_leaves_as_a_scan(options, reason, tmp_path):
    layer = kg.GatedLSTM(U, dropout=0.3, weight_noise=0.1, bias_initializer="normal", **options)
    model = keras.Sequential([keras.Input((None, F)), layer])
    report = kg.export_onnx(model, tmp_path / "model.onnx")
    (row,) = report.layers
    assert (row.operator, row.reason) == (("Scan", reason) if reason else ("LSTM", "two states"))
    assert report.largest_difference < 1e-5
    if reason:
        with pytest.raises(kg.ExportError, match=reason):
            kg.export_onnx(model, tmp_path / "model.onnx", lowering="native")
