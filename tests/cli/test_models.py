"""keras-gated on the command line: what it writes, prints and ends with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

import keras_gated as kg
from keras_gated.cli.main import main
from keras_gated.onnx import export as onnx_file
from keras_gated.onnx.report import as_json
from keras_gated.onnx.verify.differences import OutputParity
from tests.helpers import says

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the program runs on the TensorFlow backend"
)
F, U = 3, 5
NOISY = """
import keras
print("a module's noise on", keras.backend.backend())
@keras.saving.register_keras_serializable(package="{name}")
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2.0 * x
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the program adds the current folder
    return tmp_path


def saved(*before, file="model.keras", time=None, layer=None):
    """A model with random weights, in a file."""
    x = y = keras.Input((time, F), name="x")
    for one in (*before, layer or kg.GatedGRU(U, return_sequences=True, name="gru")):
        y = one(y)
    model = keras.Model(x, keras.layers.Dense(2, name="y")(y))
    rng = np.random.default_rng(0)
    model.set_weights([0.5 * rng.standard_normal(w.shape) for w in model.get_weights()])
    model.save(file)
    return model


def noisy(name: str):
    """A layer of a module in the current folder."""
    Path(f"{name}.py").write_text(NOISY.format(name=name))
    code = compile(NOISY.format(name=name), name, "exec")
    scope: dict = {"__name__": name}
    exec(code, scope)
    return scope["Twice"]()


def forget(name: str) -> None:
    """Takes a custom layer out of Keras's register, as in a fresh process."""
    keras.saving.get_custom_objects().pop(f"{name}>Twice")


def assert_same(model, file="out.onnx"):
    x = np.random.default_rng(1).standard_normal((4, 6, F)).astype("float32")
    (found,) = onnxruntime.InferenceSession(file).run(None, {"x": x})
    np.testing.assert_allclose(found, model(x, training=False), rtol=1e-5, atol=1e-5)


def test_export_and_check(folder, capsys):
    model = saved()
    assert main(["export", "model.keras", "out.onnx"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("out.onnx: opset 17, ") and "differs from Keras by at most" in printed
    assert_same(model)
    assert main(["check", "model.keras", "out.onnx", "--seed", "7"]) == 0
    assert capsys.readouterr().out.startswith("out.onnx: passed at tolerance 1.0e-05")
    model.set_weights([w + 0.01 for w in model.get_weights()])
    model.save("model.keras")
    assert main(["check", "model.keras", "out.onnx"]) == 1
    assert "problem: Output 'y' differs at x (2, 9, 3)" in capsys.readouterr().out
    assert main(["check", "model.keras", "out.onnx", "--tolerance", "10"]) == 0


def test_check_on_data_of_ones_own(folder, capsys):
    saved()
    main(["export", "model.keras", "out.onnx", "--no-verify"])
    x = np.random.default_rng(0).normal(size=(3, 7, F)).astype("float32")
    np.save("x.npy", x)
    np.savez("x.npz", x=x)
    Path("text.npz").write_text("no numbers")
    capsys.readouterr()
    for file in ("x.npy", "x.npz"):
        assert main(["check", "model.keras", "out.onnx", "--data", file]) == 0
        assert "(3, 7, " in capsys.readouterr().out
    for file in ("missing.npy", "text.npz"):
        assert main(["check", "model.keras", "out.onnx", "--data", file]) == 1
        error = capsys.readouterr().err
        assert "--data must be an .npy or .npz file" in error and file in error


def test_json_is_all_that_is_printed(folder, capsys):
    model = saved(noisy("my_layers"))
    forget("my_layers")
    arguments = ["model.keras", "out.onnx", "--module", "my_layers", "--json"]
    capsys.readouterr()
    assert main(["export", *arguments, "--lowering", "gru=scan"]) == 0
    out, err = capsys.readouterr()
    assert "a module's noise" in err
    report = json.loads(out)
    assert report["operators"]["Scan"] == 1 and report["layers"][0]["operator"] == "Scan"
    assert report["inputs"] == ["x"] and report["outputs"] == ["y"] and report["opset"] == 17
    assert 0 < report["largest_difference"] < 1e-5
    assert_same(model)
    assert main(["check", *arguments, "--tolerance", "1e-12"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is False and report["tolerance"] == 1e-12 and report["problems"]
    assert report["largest_difference"] == max(row["relative"] for row in report["outputs"])


@pytest.mark.long
def test_options_reach_the_export(folder, capsys):
    saved(time=4)
    options = "--opset 15 --static --no-verify --lowering loop --expected-batch 64 --json"
    assert main(["export", "model.keras", "out.onnx", *options.split()]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["opset"] == 15 and report["largest_difference"] is None
    assert report["operators"]["Loop"] == 1
    (port,) = onnx.load("out.onnx").graph.input
    assert [axis.dim_value for axis in port.type.tensor_type.shape.dim] == [1, 4, F]
    saved(layer=kg.GatedGRU(256, reset_gate=False, name="gru"))
    for batch, operator in (("1", "GRU"), ("4096", "Scan")):
        arguments = ["--expected-batch", batch, "--no-verify", "--json"]
        assert main(["export", "model.keras", "out.onnx", *arguments]) == 0
        assert json.loads(capsys.readouterr().out)["layers"][0]["operator"] == operator


def test_streaming(folder, capsys):
    model = saved()
    assert main(["export", "model.keras", "out.onnx", "--streaming", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["inputs"]) == len(report["outputs"]) == 2  # x, y and the state
    x = np.random.default_rng(1).standard_normal((2, 6, F)).astype("float32")
    session = kg.StreamingSession("out.onnx")
    steps = np.stack([np.asarray(session.step(x[:, t])) for t in range(6)], axis=1)
    np.testing.assert_allclose(steps, model(x), rtol=1e-5, atol=1e-5)
    assert main(["check", "model.keras", "out.onnx", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["shape"] for row in report["outputs"]] == [
        "x (2, 6, 3)",
        "x (2, 6, 3) in chunks of 1, 3, 2",
    ]
    assert main(["check", "model.keras", "out.onnx", "--tolerance", "1e-12"]) == 1
    assert "problem: Output 'y' differs at x (2, 6, 3) by" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("form", ["", "--streaming", "--static"])
def test_int8(form, folder, capsys):
    """Whatever the form, an LSTM is one int8 node and a GRU a Scan with int8 products."""
    lstm = kg.GatedLSTM(U, return_sequences=True, name="lstm")
    saved(lstm, time=4 if form == "--static" else None)
    arguments = ["export", "model.keras", "out.onnx", "--int8", "--json", *form.split()]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    operators = report["operators"]
    assert operators["DynamicQuantizeLSTM"] == operators["Scan"] == 1 and "GRU" not in operators
    assert report["left_in_float32"] == [] and report["size_after"] > 0
    assert len(onnx.load("out.onnx").graph.input) == (4 if form == "--streaming" else 1)
    assert sorted(path.name for path in folder.iterdir()) == ["model.keras", "out.onnx"]
    assert main([*arguments, "--lowering", "native"]) == 0
    (left,) = json.loads(capsys.readouterr().out)["left_in_float32"]
    assert left["operator"] == "GRU"


def test_int8_without_comparing_with_the_model(folder, capsys, monkeypatch):
    saved(time=4)

    def refuse(*_, **__):
        raise AssertionError("the float32 file was compared with the model")

    monkeypatch.setattr(onnx_file, "check_onnx", refuse)
    for form in ([], ["--static"]):
        arguments = ["export", "model.keras", "out.onnx", "--int8", "--json", *form]
        assert main(arguments) == 1
        assert "was compared" in capsys.readouterr().err
        assert main([*arguments, "--no-verify"]) == 0
        assert json.loads(capsys.readouterr().out)["outputs"][0]["largest"] > 0


@keras.saving.register_keras_serializable(package="test_cli")
class Spoken(keras.Model):
    """A subclassed model, whose file does not say what it takes: a list or a dictionary."""

    def __init__(self, by_key=False, **kwargs):
        super().__init__(**kwargs)
        self.by_key, self.gru = by_key, kg.GatedGRU(U, name="gru")

    def call(self, inputs):
        x, start = (inputs["x"], inputs["start"]) if self.by_key else inputs
        return self.gru(x, initial_state=start)

    def get_config(self):
        return super().get_config() | {"by_key": self.by_key}


@pytest.mark.long
@pytest.mark.parametrize("by_key", [False, True])
def test_inputs_that_the_file_does_not_say(by_key, folder, capsys):
    model = Spoken(by_key)
    x, start = np.ones((2, 4, F), "float32"), np.ones((2, U), "float32")
    model({"x": x, "start": start} if by_key else [x, start])
    model.save("model.keras")
    assert main(["export", "model.keras", "out.onnx"]) == 1
    assert "--input None,None,88:float32" in capsys.readouterr().err
    inputs = ["--input", "x=None,None,3", "--input", "start=None, 5:float32"]
    if not by_key:
        inputs = ["--input", "None,None,3:float32:x", "--input", "None,5:float32:start"]
    assert main(["export", "model.keras", "out.onnx", *inputs, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert sorted(report["inputs"]) == ["start", "x"] and report["largest_difference"] < 1e-5
    assert main(["check", "model.keras", "out.onnx", *inputs]) == 0
    assert main(["export", "model.keras", "out.onnx", "--int8", *inputs]) == 0
    capsys.readouterr()
    assert main(["check", "model.keras", "out.onnx", "--input", "a=2", "--input", "3"]) == 1
    err = capsys.readouterr().err
    assert says(err, "`--input`...KEY=...Received: keys ['a', None]")


def test_a_file_that_holds_code(folder, capsys):
    saved(keras.layers.Lambda(lambda x: 2.0 * x))
    assert main(["export", "model.keras", "out.onnx"]) == 1
    paragraph = capsys.readouterr().err.splitlines()[-1]
    assert says(paragraph, "'model.keras'...Python code...Lambda")
    model = keras.saving.load_model("model.keras", safe_mode=False)  # as the paragraph says
    assert "keras.saving.load_model('model.keras', safe_mode=False)" in paragraph
    kg.export_onnx(model, "out.onnx")
    saved(keras.layers.Lambda(twice))
    assert main(["export", "model.keras", "out.onnx"]) == 0


@keras.saving.register_keras_serializable(package="test_cli")
def twice(x):
    return 2.0 * x


def test_errors_are_one_paragraph(folder, capsys):
    Path("out.onnx").write_bytes(b"an older file")
    saved(noisy("my_lost_layers"))
    forget("my_lost_layers")
    for arguments, text in {
        ("lost.keras",): "'lost.keras'",
        ("model.keras",): "Keras cannot load the model",
        ("model.keras", "--module", "nowhere"): "'nowhere'...cannot be imported",
        ("model.keras", "--module", "my_lost_layers", "--opset", "99"): "`opset`...opset=99",
    }.items():
        capsys.readouterr()
        assert main(["export", arguments[0], "out.onnx", *arguments[1:], "--json"]) == 1
        out, err = capsys.readouterr()
        paragraph = err.splitlines()[-1]
        assert paragraph.startswith("keras-gated: error: ") and "Traceback" not in err
        assert says(paragraph, text) and says(json.loads(out)["error"], text)
    assert Path("out.onnx").read_bytes() == b"an older file"


@pytest.mark.parametrize(
    "arguments, text",
    [
        ("", "required: COMMAND"),
        ("export model.keras", "required: OUT.onnx"),
        ("export m o --streaming --static", "not allowed with argument"),
        ("export m o --lowering fast", "auto, native, scan, loop"),
        ("export m o --lowering gru=fast", "Received: gru=fast"),
        ("check m o --tolerance small", "invalid float value"),
        ("check m o --input 2,x", "[KEY=]SHAPE[:DTYPE[:NAME]]"),
        ("check m o --input None,0:float32", "Received: None,0:float32"),
        ("export m o --input a=b=3", "Received: a=b=3"),
    ],
)
def test_wrong_usage(arguments, text, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert text in err and not out


def test_a_dtype_that_keras_does_not_know_is_wrong_usage(folder, capsys):
    saved()
    with pytest.raises(SystemExit) as caught:
        main(["export", "model.keras", "out.onnx", "--input", "None,3:floating"])
    assert caught.value.code == 2
    assert says(capsys.readouterr().err, "argument --input: ...dtype...Received: None,3:floating")


@pytest.mark.parametrize("command", ["export", "check"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    out = capsys.readouterr().out
    assert caught.value.code == 0 and "[KEY=]SHAPE[:DTYPE[:NAME]]" in out and "--module" in out


def test_numbers_that_json_lacks():
    found = OutputParity("y", "x (2, 3)", float("nan"), float("inf"))
    data = json.loads(json.dumps(as_json({"outputs": (found,)}), allow_nan=False))
    nothing = {"output": "y", "shape": "x (2, 3)", "absolute": None, "relative": None}
    assert data == {"outputs": [nothing | {"runtime": "onnxruntime"}]}


@pytest.mark.long
def test_the_program(folder):
    """In processes of their own, from a shell in which Keras is set to another backend."""
    saved(noisy("our_layers"))
    forget("our_layers")
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    program = [sys.executable, "-c", "import sys, keras_gated_cli as c; sys.exit(c.main())"]
    running = [
        subprocess.Popen(
            [*program, "export", "model.keras", "out.onnx", *options, "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for options in (["--module", "our_layers"], [])
    ]
    (out, err), (out_failed, err_failed) = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 1], err + err_failed
    assert json.loads(out)["operators"]["GRU"] == 1
    assert "a module's noise on tensorflow" in err
    assert "Keras cannot load the model" in json.loads(out_failed)["error"]
    assert "Traceback" not in err_failed and "--module on the command line" in err_failed
    assert not {word for word in ("oneDNN", "absl::", "I0000") if word in err + err_failed}


def test_runtimes(folder, capsys):
    saved(keras.layers.Masking())
    assert main(["export", "model.keras", "a.onnx", "--runtimes", "onnx.reference", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["layers"][0]["operator"] == "Scan"
    assert report["runtimes"]["onnx.reference"] == onnx.__version__
    assert main(["check", "model.keras", "a.onnx", "--runtimes", "onnx.reference"]) == 0
    assert "run in: onnxruntime" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["export", "model.keras", "a.onnx", "--runtimes", "openvin"])
    assert "openvin" in capsys.readouterr().err
