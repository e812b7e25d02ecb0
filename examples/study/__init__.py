"""Studies: comparisons of cells on tasks, with several seeds.

    task.py        a task: data in three parts and a score     music.py, speech.py, memory.py
    training.py    one run: a cell, a task, a seed, a learning rate
    engines.py     many runs: in this process, on all cores, on a cluster with Ray
    results.py     the file that has a line for each finished run
    carry_out.py   runs what is not in that file yet, with a progress bar
    comparison.py  all cells on all tasks                       protocol.py  settings of the runs
    ranks.py       tests over several seeds
    report.py, figures.py    tables and figures

This file sets variables that Keras and its backends read when they are imported: the backend, and
one thread for each run. With one thread the order of sums, and so every number, does not depend on
the number of cores.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
THREADS = "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"
for _name in THREADS:
    os.environ.setdefault(_name, "1")
# glibc reads these when a process of --engine cores starts: memory that one update frees stays with
# the process for the next update, so that the kernel need not clear it again.
MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
}
for _name, _value in MALLOC.items():
    os.environ.setdefault(_name, _value)
SETTINGS = {name: os.environ[name] for name in ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES", *THREADS)}
