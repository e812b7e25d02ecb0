"""The modules of the package in the order in which they may import one another."""

# A module imports only from those before it. A new module needs a place here. Each line names a
# folder and modules of it; a folder has several lines where others come in between.
ROOMS = """
    : installation
    spec: config activations kernels gate_values parts rare_parts cell_spec normal_form
    spec: from_arguments preset_lookup catalogue options onnx_operator operator_weights equations
    spec: describe
    engine.backends: unrolled tensorflow jax torch selected
    engine: gate_tensors scaled_memories formula call random_masks input_window backward loop_plan
    engine: loop newton parallel_scan fused run
    : layer_arguments argument_checks call_arguments initializers cell_weights cell layers
    : sequence_batches padded_batches packed_batches
    convert: torch_modules layer_copies keras_layers comparison same_mask conversion other_cells
    convert: keras_models
    inspection: recorded_runs traces rounds plots monitor
    reduction: retracing steps data model_graph recording fit units reduced_model reduce_gates
    reduction: figures gate_rows survey gate_report
    onnx: errors report atomic_file model_file streaming_session runtimes
    onnx.tracing: layer_places model_io native_or_scan operator_inputs
    onnx.graph: tf2onnx writer large_weights stored_once empty_input_guards cleanup masks recurrent
    onnx.graph: joined_nodes scan stubs int8_nodes
    onnx.tracing: tracer patched_layers
    onnx: model_to_graph
    onnx.tracing: time_windows streaming
    onnx: subprocess_export
    onnx.verify: facts values differences inputs shapes web_process runners streams check
    onnx.verify: int8_comparison
    onnx: export export_streaming quantize
    conformance: report run_cell compare cell_copies over_time training serialization check
    speed: timing adapters onnx_runs
    reduction: files slim_result search_log search slim
    cli: command arguments import_keras data_files cells doctor models gates layer_times bench
    cli: main
"""


def modules_in_order(rooms: str) -> list[str]:
    """The modules of `ROOMS` by dotted name, in order."""
    found = []
    for line in rooms.split("\n"):
        folder, _, modules = line.strip().partition(":")
        found += [f"{folder}.{module}".lstrip(".") for module in modules.split()]
    return found
