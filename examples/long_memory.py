"""What keeps a memory for hundreds of steps? Cells of equal size; scores without memory are known.

    adding_N      two of N numbers are marked: what is their sum? The answer 1 has an error of 1/6
                  (Hochreiter and Schmidhuber 1997)
    copying_N     ten symbols, N steps of silence: which were they? Without memory the score is
                  10 ln 8 / (N + 20)
    digits        the 64 pixels of a handwritten digit, one at a time (scikit-learn)
    vowels        which of nine men says "ae"? 7 to 29 frames (Japanese Vowels, in the wheel of
                  sktime: pip install --no-deps sktime)

    pip install ".[examples]"
    python examples/long_memory.py                                    # adding_100, digits
    python examples/long_memory.py --tasks copying_100 copying_400 --cells lstm min_gru
    python examples/long_memory.py --plugin examples/study_plugin.py --tasks order    # your own
    python examples/long_memory.py --search                           # a learning rate for each
    python examples/long_memory.py --smoke                            # a short run

Finished runs are lines of --out/results.jsonl: the same command continues after an interruption.
"""

import argparse

import extras  # noqa: F401 - names what to install if a package is missing
from study.carry_out import add_options
from study.comparison import Comparison, add_cell_options, search_or_compare

CELLS = "elman", "lstm", "nfg", "gru", "mgu", "janet"
TASKS = "adding_100", "digits"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    add_cell_options(parser, CELLS, "lstm", TASKS)
    options = parser.parse_args()
    plan = Comparison.of_equal_size("Long memory", options)
    search_or_compare(plan, options)


if __name__ == "__main__":
    main()
