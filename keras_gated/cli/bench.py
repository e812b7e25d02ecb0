"""The command bench: how long presets take, compared with Keras's own layers of the same size."""

import argparse

from keras_gated.cli.command import Result, add_command, add_number_option, add_preset, add_sizes
from keras_gated.cli.import_keras import import_keras
from keras_gated.onnx.tracing.native_or_scan import LOWERINGS
from keras_gated.spec.preset_lookup import presets


def add_bench(commands) -> None:
    """Adds the command."""
    text = "Time a training step and inference of presets and of Keras's LSTM and GRU."
    more = (
        "All have the same size and run in turns, on the backend that Keras is set to "
        "(KERAS_BACKEND), compiled by XLA where the backend has it. On a GPU Keras's layers may "
        "run on cuDNN."
    )
    parser = add_command(commands, "bench", _bench, text, more)
    add_preset(parser, "names", nargs="+", metavar="NAME")
    add_sizes(parser, default=64)
    add_number_option(parser, "--batch", "B", "batch size", 32)
    add_number_option(parser, "--time", "T", "time steps", 100)
    text = "how long to measure, about, after compilation"
    add_number_option(parser, "--seconds", "S", text, 10)
    add_number_option(parser, "--seed", "N", "of weights and inputs", 0, int)
    forms = ", ".join(form for form in LOWERINGS if form != "auto")
    parser.add_argument(
        "--onnx",
        action="store_true",
        help=f"also time each cell in onnxruntime on one thread, in the forms that it has: {forms}",
    )


def _bench(options: argparse.Namespace) -> Result:
    names = [presets[name].name for name in options.names]  # an unknown name ends here
    import_keras()
    from keras_gated.cli.layer_times import Sizes, compare_layers

    sizes = Sizes(options.batch, options.time, options.input_dim, options.units)
    return Result(compare_layers(names, sizes, options.seconds, options.seed, options.onnx))
