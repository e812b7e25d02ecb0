"""What is a gate for? Cells with gates removed, at equal size, on several tasks and seeds.

By default the eight variants of the LSTM with peepholes of Greff et al. 2017, the GRU without one
gate or the other, and the tanh RNN, on Bach's chorales and on handwritten digits, read pixel by
pixel. Other presets, tasks and numbers of weights are options:

    pip install ".[examples]"
    python examples/ablation_study.py                      # 13 cells, 6 seeds
    python examples/ablation_study.py --cells lstm janet mgu --tasks adding_100 --parameters 5000
    python examples/ablation_study.py --search             # try --draws learning rates for each
    python examples/ablation_study.py --rate 0.01          # one learning rate for all
    python examples/ablation_study.py --plugin examples/study_plugin.py --tasks order    # your own
    python examples/ablation_study.py --engine ray         # pip install ".[cluster]"
    python examples/ablation_study.py --smoke              # a short run

Every cell gets as many units as --parameters allows. The numbers of a run depend only on its
settings and its seed, not on the engine that runs it. Each finished run is a line of
--out/results.jsonl, so the same command continues after an interruption. At the end it writes
medians and ranges over the seeds, rank tests against the vanilla cell, the cost of each cell, and
figures as PNG, SVG and PDF: differences from the vanilla cell, learning curves, ranks.

Several machines: `ray start --head` on one, `ray start --address=HOST:6379` on the others, each
with the package installed; then --engine ray --address HOST:6379 here.
"""

import argparse

import extras  # noqa: F401 - names what to install if a package is missing
from study.carry_out import add_options
from study.comparison import Comparison, add_cell_options, search_or_compare

VANILLA = "lstm_peephole"
GREFF = "nig", "nfg", "nog", "niaf", "noaf", "cifg", "np", "fgr"
CELLS = VANILLA, *GREFF, "gru", "gru_no_reset", "gru_no_update", "elman"
TASKS = "chorales", "digits"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    add_cell_options(parser, CELLS, VANILLA, TASKS)
    options = parser.parse_args()
    plan = Comparison.of_equal_size("Gates removed", options)
    search_or_compare(plan, options)


if __name__ == "__main__":
    main()
