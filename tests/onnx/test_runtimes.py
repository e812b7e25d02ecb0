"""runtimes=: the form that is right in all of them, and the runs in those that are installed."""

import keras
import numpy as np
import onnx
import pytest

import keras_gated as kg
from keras_gated.onnx.runtimes import RUNTIMES, reason_against_operator
from keras_gated.onnx.verify import runners
from keras_gated.onnx.verify.runners import find_version
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import find_native_operator
from tests.helpers import raises
from tests.onnx.helpers import functional, on_tensorflow

pytestmark = on_tensorflow
OTHERS = [name for name in RUNTIMES if name != "onnxruntime"]


def layer(preset="lstm", **arguments):
    return kg.GatedRNN(4, preset, return_sequences=True, name="rnn", **arguments)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.onnx")


# What is known ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runtime", "preset", "masked", "reason"),
    [
        ("onnxruntime", "lstm_peephole", True, None),
        ("onnxruntime-web", "janet", True, None),
        ("openvino", "lstm", False, None),
        ("openvino", "lstm", True, "lengths"),
        ("openvino", "lstm_peephole", False, "peepholes"),
        ("openvino", "li_gru", False, None),
        ("openvino", "janet", False, "Affine"),
        ("onnx.reference", "lstm_peephole", False, None),
        ("onnx.reference", "gru", True, "lengths"),
        ("onnx.reference", "lstm_1997", False, "ScaledTanh"),
        ("tract", "elman", True, "lengths"),
        ("tract", "gru_cho", False, None),
        ("tract", "t_rnn", False, "Affine"),
    ],
)
def test_what_a_runtime_cannot_do(runtime, preset, masked, reason):
    native = find_native_operator(resolve(kg.preset(preset)))
    found = reason_against_operator(["onnxruntime", runtime], native, masked)
    assert found is None if reason is None else runtime in found and reason in found


# The form -----------------------------------------------------------------------------------------


def test_the_form_is_right_in_all_runtimes(path):
    model = functional(keras.layers.Masking(), layer("lstm"))
    for names, operator in [
        (["onnxruntime", "onnxruntime-web"], "LSTM"),
        (["onnxruntime-web", "openvino"], "Scan"),
    ]:
        report = kg.export_onnx(model, path, runtimes=names, verify=False)
        assert [one.operator for one in report.layers] == [operator]
        assert list(report.runtimes.values()) == ["not run: verify=False"] * len(report.runtimes)
    assert "openvino ignores the lengths" in report.layers[0].reason


def test_a_native_node_that_a_runtime_mis_reads_cannot_be_asked_for(path):
    model = functional(layer("lstm_peephole"))
    arguments = {"runtimes": ["openvino"], "lowering": "native", "verify": False}
    raises(lambda: kg.export_onnx(model, path, **arguments), "peepholes", kg.ExportError)


def test_int8_without_an_int8_lstm(path):
    report = kg.quantize_onnx(functional(layer()), path, runtimes=["onnx.reference"])
    assert report.operators["Scan"] == 1 and not report.left_in_float32


@pytest.mark.parametrize("preset", ["elman", "ran_linear"])  # the latter: h and c are equal
def test_the_body_of_a_scan_is_what_all_runtimes_load(preset, path):
    kg.export_streaming(functional(layer(preset)), path, lowering="scan")
    (scan,) = (node for node in onnx.load(path).graph.node if node.op_type == "Scan")
    (body,) = (a.g for a in scan.attribute if a.name == "body")
    sizes = [d for p in (*body.input, *body.output) for d in p.type.tensor_type.shape.dim]
    assert not any(size.dim_param for size in sizes)
    *states, series = (port.name for port in body.output)
    ((source,),) = (list(node.input) for node in body.node if node.output[0] == series)
    assert source in states


# Runs ---------------------------------------------------------------------------------------------


def test_a_runtime_that_is_not_installed(path, monkeypatch):
    version = runners.find_version
    without = lambda name: None if name == "openvino" else version(name)  # noqa: E731
    for module in ("verify.runners", "export"):
        monkeypatch.setattr(f"keras_gated.onnx.{module}.find_version", without)
    model = functional(layer())
    for export in (kg.export_onnx, kg.export_streaming):
        report = export(model, path, runtimes=("openvino", "onnx.reference"))
        assert report.runtimes["openvino"] == "not run: not installed"
        assert report.runtimes["onnx.reference"] == onnx.__version__
        assert "run in: onnxruntime " in str(report)
    raises(
        lambda: kg.check_onnx(model, path, runtimes=("openvino",)),
        "`runtimes`...openvino...[runtimes]",
        ImportError,
    )


@pytest.mark.parametrize("wrong", ["openvino", (), ("openvin",), None, [3]], ids=str)
def test_names_that_no_runtime_has(wrong, path):
    model = functional(layer())
    for call in (kg.export_onnx, kg.export_streaming, kg.check_onnx, kg.quantize_onnx):
        raises(lambda call=call: call(model, path, runtimes=wrong), "`runtimes` must be")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("runtime", OTHERS)
def test_files_run_in_a_runtime(runtime, path):
    if find_version(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    both = keras.layers.Bidirectional(layer("gru"))
    report = kg.export_onnx(functional(both), path, runtimes=(runtime,))
    assert report.runtimes[runtime] == find_version(runtime)
    kg.export_onnx(functional(layer("gru", go_backwards=True)), path, runtimes=(runtime,))
    for preset, masked in [("lstm_peephole", False), ("gru", True)]:
        front = [keras.layers.Masking()] if masked else []
        model = functional(*front, layer(preset))
        for export in (kg.export_onnx, kg.export_streaming):
            report = export(model, path, runtimes=(runtime,))
            assert report.runtimes[runtime] == find_version(runtime)
            parity = kg.check_onnx(model, path, runtimes=(runtime,))
            assert parity.passed and {row.runtime for row in parity.outputs} == set(parity.runtimes)


@pytest.mark.parametrize("runtime", OTHERS)
def test_a_runtime_that_reads_a_file_wrongly_is_found(runtime, path):
    """If it does not any more, the table of runtimes is out of date."""
    if find_version(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    if not RUNTIMES[runtime].lengths:
        pytest.skip("no such file is known")
    rnn = kg.GatedGRU(4, return_state=True, name="rnn")
    model = functional(keras.layers.Masking(), rnn)
    kg.export_onnx(model, path)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    x[0, 3:] = 0
    report = kg.check_onnx(model, path, runtimes=(runtime,), inputs=x)
    assert report.problems and all(runtime in problem for problem in report.problems)
    stream = kg.export_streaming(model, path)
    assert stream.layers[0].operator == "GRU"
    assert not kg.check_onnx(model, path, runtimes=(runtime,), inputs=x).passed


def test_a_masked_cell_without_input_kernels_is_a_loop(path):
    """It can be no Scan, and the node's lengths would be ignored."""
    constants = {"input_gate": 1.0, "forget_gate": 0.0, "output_gate": 1.0}
    spec = kg.CellSpec(memory="hidden", candidate=kg.Candidate(kernel=None), **constants)
    layer = kg.GatedRNN(4, spec, return_sequences=True)
    model = functional(keras.layers.Masking(), layer)
    report = kg.export_onnx(model, path, runtimes=("onnxruntime", "openvino"), verify=False)
    assert report.layers[0].operator == "Loop" and "openvino ignores" in report.layers[0].reason
    assert kg.export_onnx(model, path).layers[0].operator == "RNN"
