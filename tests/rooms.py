"""The modules of the package in the order in which they may import one another."""

# A module imports only from those before it. A new module needs a place here. Each line names a
# folder and modules of it; a folder has several lines where others come in between.
ROOMS = """
    : installation
    spec: parts cell_spec normal_form activations from_arguments presets catalogue
    spec: options onnx_operator equations describe
    engine.backends: tensorflow jax torch current
    engine: formula random_masks input_window layout backward loop parallel_scan run
    : layer_arguments initializers cell_weights cell layers padded_batches
    convert: torch_modules keras_layers keras_models
    inspection: traces plots monitor
    onnx: errors report atomic_file session
    onnx.tracing: model_layers model_io choice weights operator_inputs
    onnx.graph: tf2onnx writer guards cleanup masks recurrent scan stubs
    onnx.tracing: layer_calls keras_layers tracer
    onnx: convert
    onnx.tracing: streaming
    onnx: subprocess_export
    onnx.verify: inputs differences streams check
    onnx: export export_streaming int8 int8_comparison quantize
    conformance: report run_cell copies compare over_time training serialization check
    speed: timing adapters onnx_runs
    cli: command arguments load_keras cells doctor models layer_times bench main
"""


def modules_in_order(rooms: str) -> list[str]:
    """The modules of `ROOMS` by dotted name, in order."""
    found = []
    for line in rooms.split("\n"):
        folder, _, modules = line.strip().partition(":")
        found += [f"{folder}.{module}".lstrip(".") for module in modules.split()]
    return found
