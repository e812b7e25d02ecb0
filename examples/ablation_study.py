"""What is a gate for? Cells with gates removed, at equal size, on several tasks and seeds.

By default the eight variants of the LSTM with peepholes of Greff et al. 2017, the GRU without one
gate or the other, and LSTM, GRU and tanh RNN, on Bach's chorales and on spoken vowels. Any preset,
task and number of weights can be named:

    pip install "keras-gated[examples]"
    python examples/ablation_study.py                      # an hour or so on two cores
    python examples/ablation_study.py --cells lstm janet mgu --tasks adding --parameters 5000
    python examples/ablation_study.py --search             # the best of 10 learning rates for each
    python examples/ablation_study.py --engine ray         # pip install "keras-gated[cluster]"
    python examples/ablation_study.py --smoke              # does it run? 20 seconds

Every cell gets as many units as --parameters allow. A run's numbers depend on its settings and its
seed alone, whichever engine carries it out; each finished run is a line of --out/results.jsonl, and
the same command goes on where it was stopped. At the end: medians and ranges over the seeds, rank
tests against the vanilla cell, what each cell costs, learning curves, ranks.

Several machines: `ray start --head` on one, `ray start --address=HOST:6379` on the others, each
with the package installed; then --engine ray --address HOST:6379 here.
"""

import argparse
from pathlib import Path

from study import tasks
from study.carry_out import add_options
from study.comparison import Comparison, chosen_rates, compare, search

import keras_gated as kg

VANILLA = "lstm_peephole"
GREFF = "nig", "nfg", "nog", "niaf", "noaf", "cifg", "np", "fgr"
CELLS = VANILLA, *GREFF, "gru", "gru_no_reset", "gru_no_update", "elman"
TASKS = "chorales", "vowels"
RATE = 1e-2  # where none was searched for
SETTINGS = {"optimizer": "adam", "epochs": 60, "patience": 12}
SETTINGS |= {"batch_size": 16, "buckets": 2}


def plan(options) -> Comparison:
    """Every cell at the same number of weights, as far as whole units go."""
    widths = {name: tasks.load(name, options.data).input_dim for name in options.tasks}
    cells = list(dict.fromkeys([options.vanilla, *options.cells]))
    return Comparison(
        "Gates removed",
        {cell: cell for cell in cells},
        options.vanilla,
        {
            (task, cell): kg.units_for_budget(cell, width, options.parameters)
            for task, width in widths.items()
            for cell in cells
        },
        {name: SETTINGS for name in options.tasks},
        chosen_rates(options.out, {(task, c): RATE for task in options.tasks for c in cells}),
        options.data,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, seeds=5)
    parser.add_argument("--cells", nargs="+", choices=kg.presets, default=CELLS, metavar="PRESET")
    parser.add_argument("--vanilla", choices=kg.presets, default=VANILLA, metavar="PRESET")
    parser.add_argument("--tasks", nargs="+", choices=tasks.TASKS, default=TASKS)
    parser.add_argument("--parameters", type=int, default=10_000, help="weights of the cell")
    parser.add_argument("--data", type=Path, help="folder of the tasks that read files")
    options = parser.parse_args()
    if options.search:
        search(plan(options), options, draws=10, epochs=20)
    else:
        compare(plan(options), options)


if __name__ == "__main__":
    main()
