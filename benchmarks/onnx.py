"""Measures the forms of a cell in ONNX: native operator, Scan and Loop; and which one "auto" takes.

onnxruntime runs on one thread of the CPU. Times are medians, taken in turns in one process.
"""

import argparse
import tempfile

from benchmarks.__main__ import make_parser, run_info, set_up, write_and_print

PRESETS = ("lstm", "cifg", "janet", "gru", "gru_no_reset", "mgu")
PAIRS = ((32, 1), (64, 1), (64, 64), (128, 1), (128, 16), (256, 1), (256, 16), (512, 1), (512, 64))
TIME = 50
# For small devices: batch 1, 100 time steps, 32 inputs, 64 units.
SMALL = ("lstm", "lstm_peephole", "nig", "nfg", "nog", "cifg", "gru", "gru_cho")


def parse_arguments(arguments=None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = make_parser("benchmarks.onnx", __doc__, "three sizes", (1.0, "each row, about"))
    parser.set_defaults(backend="tensorflow")
    return parser.parse_args(arguments)


def main() -> None:
    """Runs the command."""
    options = parse_arguments()
    set_up(options)
    import keras

    pairs = PAIRS[1::3] if options.quick else PAIRS
    work = [(name, 1, 100, 32, 64) for name in SMALL]
    work += [(name, batch, TIME, units, units) for units, batch in pairs for name in PRESETS]
    rows, bar = [], keras.utils.Progbar(len(work), unit_name="row")
    for row in work:
        rows.append(measure_forms(*row, seconds=options.seconds, seed=options.seed))
        bar.add(1)
    where = run_info(options, module="benchmarks.onnx")
    write_and_print(options.out, "onnx", {"about": where, "rows": rows}, markdown(where, rows))


def measure_forms(
    name: str, batch: int, time: int, inputs: int, units: int, *, seconds, seed
) -> dict:
    """Returns the median milliseconds of each form of a preset, and which form auto takes."""
    import keras
    import numpy as np

    import keras_gated as kg
    from benchmarks.measure import medians
    from keras_gated.speed.onnx_runs import form_of, onnx_runs

    layer = kg.GatedRNN(units, name, return_sequences=True)
    model = keras.Sequential([keras.Input((None, inputs)), layer])
    x = np.random.default_rng(seed).normal(size=(batch, time, inputs)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        runs = onnx_runs(layer, x, folder)
        report = kg.export_onnx(model, f"{folder}/auto.onnx", expected_batch=batch, verify=False)
    for run in runs.values():
        run()
    found = {form: 1e3 * t for form, t in medians(runs, 2000, seconds, least=9).items()}
    auto = form_of(report)
    return {"preset": name, "size": [batch, time, inputs, units], **found, "auto": auto}


def markdown(about: dict, rows: list[dict]) -> str:
    """Returns the page."""
    from benchmarks.report import heading, table
    from keras_gated.speed.onnx_runs import FORMS

    head = ["cell", "size", *FORMS, "loop / native", "scan / native", "auto takes", "auto / best"]
    lines = []
    for row in rows:
        best = min(row[form] for form in FORMS)
        lines.append(
            [
                row["preset"],
                str(tuple(row["size"])),
                *(f"{row[form]:.3g}" for form in FORMS),
                f"{row['loop'] / row['native']:.2f}",
                f"{row['scan'] / row['native']:.2f}",
                row["auto"],
                f"{row[row['auto']] / best:.2f}",
            ]
        )
    text = (
        "Times are medians in milliseconds of one run of onnxruntime on one thread, taken in turns "
        "in one process; sizes are (batch, time, inputs, units). `auto` knew the batch."
    )
    return "\n".join([*heading("ONNX, as measured", about, text), "", *table(head, lines)]) + "\n"


if __name__ == "__main__":
    main()
