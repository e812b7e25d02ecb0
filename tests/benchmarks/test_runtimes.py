"""python -m benchmarks.runtimes: what a file's run counts as, and the page."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from benchmarks import runtimes
from benchmarks.runtimes_report import markdown, summarize
from tests.helpers import raises


def row(kind="plain", form="native", operator="LSTM", **verdicts):
    results = {
        name.replace("_", "."): {"verdict": v, "difference": 1e-7}
        if v == "right"
        else {"verdict": v, "reason": "Non constant seq_len is not supported 17"}
        for name, v in verdicts.items()
    }
    return {"kind": kind, "form": form, "opset": 17, "operator": operator, "results": results}


def run(y, expected=1.0, kind="plain"):
    def open_(path):
        if isinstance(y, Exception):
            raise y
        return lambda feed: {"y": np.full((2, 3), y)}

    file = SimpleNamespace(path="a", kind=kind, feed={}, expected={"y": np.full((2, 3), expected)})
    return runtimes.run(file, open_)


def test_what_a_run_counts_as():
    assert run(1.0 + 1e-6)["verdict"] == "right" and run(1.01)["verdict"] == "wrong"
    assert run(1.01, kind="int8")["verdict"] == "right"
    assert run(1000.01, expected=1000.0)["verdict"] == "right"  # relative to max(1, |y|)
    assert run(float("nan"))["verdict"] == "wrong"
    refused = run(ValueError("no such node\n\nStack backtrace:\n   1: main"))
    assert refused == {"verdict": "refused", "reason": "no such node"}


def test_a_page():
    rows = {
        "lstm": [row(onnxruntime="right", tract="right"), {"kind": "plain", "form": "scan"}],
        "gru": [
            row("masked", operator="GRU", onnxruntime="right", tract="refused"),
            row("masked", "scan", "Scan", onnxruntime="right", tract="right"),
        ],
    }
    result = summarize(rows)
    assert result["totals"][""]["tract"] == [2, 0, 1]
    assert result["chosen"] == {"onnxruntime": [2, 0, 0], "tract": [2, 0, 0]}
    assert result["nodes"]["GRU, mask"]["tract"] == [0, 0, 1]
    about = {"command": "c", "date": "d", "machine": "m", "seed": 0, "backend": "b", "versions": {}}
    about["runtimes"] = {"onnxruntime": "1.0", "tract": "0.1"}
    page = markdown(json.loads(json.dumps({"about": about, **result})))
    assert "| tract 0.1 | 2 | 0 | 1 | 2 of 2 | 1.0e-07 |" in page
    assert "| native node, masked | right | refused |" in page
    assert "| tract | a native node with a mask |" in page
    assert (
        "- openvino: of native nodes, refuses activations other than Relu, Sigmoid, Tanh;" in page
    )


def test_a_run_goes_on_where_it_stopped(tmp_path):
    part = tmp_path / "a.part.jsonl"
    assert runtimes.read_part(part, {"tract": "1"}, 0) == {}
    with part.open("a") as file:
        file.write(json.dumps({"preset": "lstm", "rows": [1]}) + "\n")
    assert runtimes.read_part(part, {"tract": "1"}, 0) == {"lstm": [1]}
    raises(lambda: runtimes.read_part(part, {"tract": "2"}, 0), "other runtimes", SystemExit)


@pytest.mark.long
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export runs on Keras's TensorFlow backend"
)
def test_files_of_a_preset():
    from functools import partial

    from keras_gated.onnx.verify.runners import open_in

    openers = {name: partial(open_in, name) for name in ("onnxruntime", "onnx.reference")}
    rows = runtimes.measure_preset("qrnn_fo", openers, 0)  # a window, and h that the step ignores
    assert {row["kind"] for row in rows} >= {"streaming", "masked bidirectional", "int8"}
    for one in rows:
        verdicts = {name: result["verdict"] for name, result in one["results"].items()}
        assert verdicts["onnxruntime"] == "right", one
        assert one["form"] != "scan" or verdicts["onnx.reference"] == "right", one
