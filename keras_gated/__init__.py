"""Gated recurrent layers for Keras 3 in which every gate is configuration."""

from importlib import import_module
from importlib.metadata import version

from keras_gated.installation import backend_problem

try:  # Keras imports its backend's package, which may be missing
    import keras as _keras  # noqa: F401
except ModuleNotFoundError as _error:
    if _problem := backend_problem(_error.name):
        raise ModuleNotFoundError(_problem, name=_error.name) from None
    raise

from keras_gated.cell import GatedCell
from keras_gated.convert.keras_models import from_keras, to_keras
from keras_gated.convert.torch_modules import from_torch
from keras_gated.initializers import Chrono, ForgetBias, UniformGate
from keras_gated.layers import GatedGRU, GatedLSTM, GatedRNN
from keras_gated.packed_batches import PackedBatches
from keras_gated.padded_batches import PaddedBatches, bucket_lengths
from keras_gated.spec import catalogue  # noqa: F401 - fills the presets
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.describe import (
    Difference,
    count_flops,
    count_parameters,
    describe,
    diff,
    equations,
    units_for_budget,
)
from keras_gated.spec.kernels import Blocks
from keras_gated.spec.parts import Candidate, Gate, Projection, Tied
from keras_gated.spec.preset_lookup import Preset, preset, presets

__version__ = version("keras-gated")

# What needs an extra, or is seldom needed, is imported when it is first asked for.
_LATER = {
    "CellError": "keras_gated.conformance.report",
    "CellReport": "keras_gated.conformance.report",
    "ExportError": "keras_gated.onnx.errors",
    "ExportReport": "keras_gated.onnx.export",
    "GateMonitor": "keras_gated.inspection.monitor",
    "GateReport": "keras_gated.reduction.gate_rows",
    "ParityReport": "keras_gated.onnx.verify.differences",
    "QuantizationReport": "keras_gated.onnx.quantize",
    "SlimResult": "keras_gated.reduction.slim_result",
    "StreamingSession": "keras_gated.onnx.streaming_session",
    "check_cell": "keras_gated.conformance.check",
    "check_onnx": "keras_gated.onnx.verify.check",
    "export_onnx": "keras_gated.onnx.export",
    "export_streaming": "keras_gated.onnx.export_streaming",
    "gate_report": "keras_gated.reduction.gate_report",
    "half_life": "keras_gated.inspection.traces",
    "newton_rounds": "keras_gated.inspection.rounds",
    "plot_gates": "keras_gated.inspection.plots",
    "plot_memory": "keras_gated.inspection.plots",
    "quantize_onnx": "keras_gated.onnx.quantize",
    "reduce_gates": "keras_gated.reduction.reduce_gates",
    "saturation": "keras_gated.inspection.traces",
    "slim": "keras_gated.reduction.slim",
    "trace_gates": "keras_gated.inspection.traces",
}

__all__ = [
    "Blocks",
    "Candidate",
    "CellError",
    "CellReport",
    "CellSpec",
    "Chrono",
    "Difference",
    "ExportError",
    "ExportReport",
    "ForgetBias",
    "Gate",
    "GateMonitor",
    "GateReport",
    "GatedCell",
    "GatedGRU",
    "GatedLSTM",
    "GatedRNN",
    "PackedBatches",
    "PaddedBatches",
    "ParityReport",
    "Preset",
    "Projection",
    "QuantizationReport",
    "SlimResult",
    "StreamingSession",
    "Tied",
    "UniformGate",
    "bucket_lengths",
    "check_cell",
    "check_onnx",
    "count_flops",
    "count_parameters",
    "describe",
    "diff",
    "equations",
    "export_onnx",
    "export_streaming",
    "from_keras",
    "from_torch",
    "gate_report",
    "half_life",
    "newton_rounds",
    "plot_gates",
    "plot_memory",
    "preset",
    "presets",
    "quantize_onnx",
    "reduce_gates",
    "saturation",
    "slim",
    "to_keras",
    "trace_gates",
    "units_for_budget",
]


def __getattr__(name: str):
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
