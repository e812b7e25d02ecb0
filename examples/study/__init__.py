"""Studies: comparisons of cells on tasks, with several seeds.

    task.py        a task: data in three parts and a score     music.py, speech.py, memory.py
    plugin.py      tasks and cells of your own: --plugin
    training.py    one run: a cell, a task, a seed, a learning rate
    identity.py    what makes two runs the same: the specification, the data, the machine's settings
    engines.py     many runs: in this process, on all cores, on a cluster with Ray
    results.py     the file that has a line for each finished run
    carry_out.py   runs what is not in that file yet, with a progress bar
    comparison.py  all cells on all tasks                       protocol.py  settings of the runs
    ranks.py       tests over several seeds, how many seeds they need, intervals
    report.py, sheet.py, command.py, versions.py      tables and the page
    figures.py, curves.py, dots.py      figures, for the screen and for print
    redraw.py      draws figures again from a file of results

This file sets variables that Keras and its backends read when they are imported: the backend, and
one thread for each run. With one thread the order of sums, and so every number, does not depend on
the number of cores.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
THREADS = "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"
DEFAULTS = {"CUDA_VISIBLE_DEVICES": "-1", **dict.fromkeys(THREADS, "1")}
for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
# glibc reads these when a process of --engine cores starts: memory that one update frees stays with
# the process for the next update, so that the kernel need not clear it again.
MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
}
for _name, _value in MALLOC.items():
    os.environ.setdefault(_name, _value)
SETTINGS = {name: os.environ[name] for name in ("KERAS_BACKEND", *DEFAULTS)}
