"""What is a gate for? Cells with gates removed, at equal size, on several tasks and seeds.

By default the eight variants of the LSTM with peepholes of Greff et al. 2017, the GRU without one
gate or the other, and the tanh RNN, on Bach's chorales and on handwritten digits, read pixel by
pixel. Any preset, task and number of weights can be named:

    pip install "keras-gated[examples]"
    python examples/ablation_study.py                      # 13 cells, 6 seeds
    python examples/ablation_study.py --cells lstm janet mgu --tasks adding_100 --parameters 5000
    python examples/ablation_study.py --search             # a learning rate for each, of --draws
    python examples/ablation_study.py --rate 0.01          # one for all
    python examples/ablation_study.py --engine ray         # pip install "keras-gated[cluster]"
    python examples/ablation_study.py --smoke              # does it run?

Every cell gets as many units as --parameters allow. A run's numbers depend on its settings and its
seed alone, whichever engine carries it out; each finished run is a line of --out/results.jsonl, and
the same command goes on where it was stopped. At the end: medians and ranges over the seeds, rank
tests against the vanilla cell, what each cell costs, learning curves, ranks.

Several machines: `ray start --head` on one, `ray start --address=HOST:6379` on the others, each
with the package installed; then --engine ray --address HOST:6379 here.
"""

import argparse

from study.carry_out import add_options
from study.comparison import Comparison, add_cell_options, search_or_compare

VANILLA = "lstm_peephole"
GREFF = "nig", "nfg", "nog", "niaf", "noaf", "cifg", "np", "fgr"
CELLS = VANILLA, *GREFF, "gru", "gru_no_reset", "gru_no_update", "elman"
TASKS = "chorales", "digits"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, seeds=6)
    add_cell_options(parser, CELLS, VANILLA, TASKS)
    options = parser.parse_args()
    plan = Comparison.of_equal_size("Gates removed", options)
    search_or_compare(plan, options)


if __name__ == "__main__":
    main()
