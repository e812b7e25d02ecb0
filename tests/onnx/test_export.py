"""export_onnx: every preset and other specifications, each against Keras; bad arguments."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.verify.check import check_onnx
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.parts import Candidate, Gate, Tied
from tests.onnx.helpers import (
    MASKS,
    NATIVE,
    X_SPEC,
    F,
    SideBySide,
    U,
    error_bound,
    exported,
    functional,
    native_nodes,
    on_tensorflow,
    randomized,
    run,
    swap,
)
from tests.reference import WITNESSES
from tests.typical import OTHERS, TYPICAL

pytestmark = on_tensorflow

GROUPS = {f"typical {k}": TYPICAL[k::4] for k in range(4)}  # several in a model
FAMILIES = {
    family: [name for name in OTHERS if kg.presets[name].family == family]
    for family in sorted({kg.presets[name].family for name in OTHERS})
}


MORE = [
    pytest.param(names, lowering, marks=pytest.mark.long)
    for names, lowering in [
        (GROUPS["typical 1"], "scan"),
        *((n, "auto") for n in FAMILIES.values()),
    ]
]


def presets_in_groups(always: int):
    """All of them, of which so many groups of the typical ones always run."""
    cases = [(names, "auto") for names in GROUPS.values()]
    later = [pytest.param(*case, marks=pytest.mark.long) for case in cases[always:]]
    ids = ["-".join(names) for names in (*GROUPS.values(), GROUPS["typical 1"], *FAMILIES.values())]
    return pytest.mark.parametrize(("names", "lowering"), [*cases[:always], *later, *MORE], ids=ids)


@presets_in_groups(always=2)
def test_every_preset(names, lowering, path):
    # As many features as units: two presets need it.
    layers = [kg.GatedRNN(U, name, return_sequences=True, name=name) for name in names]
    model = randomized(SideBySide(layers, U))
    signature = {"input_signature": X_SPEC}
    report = export_onnx(model, path, verify=False, lowering=lowering, **signature)
    native = {n: WITNESSES[n].native for n in names if WITNESSES[n].native}
    native = native if lowering == "auto" else {}
    assert {layer.name: layer.operator for layer in report.layers} == {
        name: native.get(name, "Scan") for name in names
    }
    assert native_nodes(path) == sum(name in native for name in names)
    assert report.operators.get("Scan", 0) == sum(name not in native for name in names)
    assert "Loop" not in report.operators
    parity = check_onnx(model, path, seed=3, **signature)
    assert parity.passed and len({found.output for found in parity.outputs}) == len(names)
    assert parity.largest_difference < 5e-6
    assert len({found.shape for found in parity.outputs}) == 3


@presets_in_groups(always=1)
def test_every_preset_under_masks(names, lowering, path):
    def made(dtype):
        layers = [
            kg.GatedRNN(U, name, return_sequences=True, return_state=True, dtype=dtype)
            for name in names
        ]
        return randomized(SideBySide(layers, U, dtype))

    model, finer = made("float32"), made("float64")
    signature = [X_SPEC, keras.InputSpec(shape=(None, None), dtype="bool")]
    export_onnx(model, path, verify=False, lowering=lowering, input_signature=signature)
    rng = np.random.default_rng(2)
    for batch, time in ((6, 6), (6, 1), (1, 5), (3, 14)):
        mask = MASKS[:batch, :time] if time < 9 else rng.random((batch, time)) < 0.6
        x = rng.standard_normal((batch, time, U))
        y32, y64 = (
            keras.tree.flatten(m([x.astype(d), mask], training=False))
            for m, d in ((model, "float32"), (finer, "float64"))
        )
        for found, a, b in zip(run(path, x.astype("float32"), mask), y32, y64, strict=True):
            assert (np.abs(found - np.asarray(a)) <= error_bound(a, b)).all()


SPECS = {
    "hard sigmoid, coupled": CellSpec(
        input_gate=Tied("forget", complement=True, offset=0.3), recurrent_activation="hard_sigmoid"
    ),
    "uncoupled, one state": CellSpec(memory="hidden", output_gate=None),
    "constant reset": CellSpec(
        memory="hidden", input_gate=Tied("forget", complement=True), reset_gate=0.25
    ),
    "reset after, tied": CellSpec(
        memory="hidden",
        input_gate=Tied("forget", complement=True),
        reset_gate=Tied("forget", offset=0.5),
        candidate=Candidate(reset_after=True),
    ),
    "bistable, reset after": CellSpec(
        memory="hidden",
        input_gate=Tied("forget", complement=True),
        reset_gate=Gate(activation="one_plus_tanh"),
        candidate=Candidate(reset_after=True),
    ),
    "output tied": CellSpec(output_gate=Tied("input", complement=True, offset=0.2)),
    "linear gates": CellSpec(
        input_gate=Tied("forget", complement=True, offset=0.1), recurrent_activation="linear"
    ),
    "constants beyond 1": CellSpec(input_gate=0.5, forget_gate=1.1, output_gate=0.7),
    "gelu outside": CellSpec(
        candidate=Candidate(recurrent_kernel=None, activation="gelu"), output_activation="tanh"
    ),
    "bias only": CellSpec(
        candidate=Candidate(kernel=None, recurrent_kernel=None, activation="gelu"),
        output_activation="softsign",
    ),
    "complement outside": CellSpec(
        memory="hidden",
        input_gate=Tied("forget", complement=True, offset=0.4),
        forget_gate=Gate(recurrent_kernel=None, activation="tanh"),
        candidate=Candidate(recurrent_kernel=None),
    ),
    "everything diagonal": CellSpec(
        input_gate=Gate("diagonal", "diagonal", peephole=True),
        forget_gate=Gate("identity", "identity"),
        candidate=Candidate("diagonal", "identity"),
    ),
}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Argument `forget_gate` should be in:UserWarning")
def test_specifications_beyond_the_presets(path):
    x = keras.Input((None, U), name="x")
    layers = [
        kg.GatedRNN(U, spec, return_sequences=True, name=name.replace(" ", "_").replace(",", ""))
        for name, spec in SPECS.items()
    ]
    # Linear gates grow without bound, and rounding with them, unless the weights are small.
    model = randomized(keras.Model(x, [layer(x) for layer in layers]), scale=0.25)
    report = exported(model, path, len(SPECS), lowering="native")
    assert all(layer.operator in NATIVE for layer in report.layers)


def test_faces_and_stock_numbers(path):
    x = keras.Input((None, F), name="x")
    layers = [
        kg.GatedLSTM(U, forget_gate=False, name="no_forget"),
        kg.GatedLSTM(U, peephole=True, use_bias=False, name="no_bias"),
        kg.GatedLSTM(U, activation="relu", output_activation="tanh", name="relu"),
        kg.GatedGRU(U, reset_after=False, name="before"),
        kg.GatedGRU(U, update_gate=0.25, name="constant_update"),
        kg.GatedGRU(U, update_gate=False, reset_gate=False, name="rnn"),
    ]
    model = randomized(keras.Model(x, [layer(x) for layer in layers]))
    report = exported(model, path, len(layers))
    assert [layer.operator for layer in report.layers] == ["LSTM"] * 3 + ["GRU"] * 2 + ["RNN"]


@pytest.mark.parametrize("opset", [13, 18])
def test_other_opsets(opset, path):
    model = functional(keras.layers.Masking(), kg.GatedRNN(U, "lstm", return_sequences=True))
    exported(model, path, 1, opset=opset)


def test_export_refuses_a_wrong_graph_and_keeps_the_old_file(path, monkeypatch):
    from keras_gated.onnx.tracing import tracer as tracing

    model = functional(kg.GatedRNN(U, "lstm", name="enc"), keras.layers.Dense(2, name="head"))

    def wrong(*arguments):
        packed = right(*arguments)
        return {**packed, "W": swap(0, 3)(packed["W"])}

    right = tracing.pack
    monkeypatch.setattr(tracing, "pack", wrong)
    with pytest.raises(ExportError, match="(?s)'head' differs at x"):
        export_onnx(model, path)
    assert list(Path(path).parent.iterdir()) == []
    Path(path).write_bytes(b"an older file")
    with pytest.raises(ExportError):
        export_onnx(model, path)
    assert Path(path).read_bytes() == b"an older file"
    assert len(list(Path(path).parent.iterdir())) == 1


def test_stateful_is_refused(path):
    x = keras.Input(batch_shape=(2, None, F))
    model = keras.Model(x, kg.GatedRNN(U, "lstm", stateful=True, name="kept")(x))
    with pytest.raises(ExportError, match="stateful=True.*kept.*export_streaming.*return_state"):
        export_onnx(model, path)
    assert not Path(path).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"opset": 9}, "`opset`.*13..18.*opset=9"),
        ({"lowering": "fast"}, "`lowering`.*'auto'.*'fast'"),
        ({"model": 3}, "`model`.*keras.Model.*int"),
        ({"path": "/no/such/folder/m.onnx"}, "`path`.*/no/such/folder"),
    ],
)
def test_arguments(arguments, words, path):
    given = {"model": functional(kg.GatedRNN(U, "lstm")), "path": path, **arguments}
    with pytest.raises(ValueError, match=words):
        export_onnx(**given)


def test_a_missing_package_names_the_extra(monkeypatch):
    from keras_gated.onnx import errors

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"onnxruntime.*pip install .*\[onnx\]"):
        errors.require("onnxruntime")
