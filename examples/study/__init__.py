"""Runs that compare cells: what is learned, one run, many runs at once, what came of them.

    task.py       what is learned and how it is scored          music.py, speech.py, memory.py
    training.py   one run: a cell, a task, a seed, a rate
    engines.py    many runs: in this process, on all cores, on a cluster with Ray
    results.py    the file in which every finished run is a line
    carry_out.py  what is not done yet, with a bar
    comparison.py all cells on all tasks                        protocol.py  at equal size
    ranks.py      what several seeds say    report.py, figures.py   tables and figures

Named before Keras is imported: the backend; and one thread of a processor for a run, so that the
order of sums, and with it every number, does not depend on how many there are.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
THREADS = "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"
for _name in THREADS:
    os.environ.setdefault(_name, "1")
# What glibc reads where a process of --engine cores starts: memory that one update gave back is
# kept for the next, so that the kernel need not clear it anew.
KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
}
for _name, _value in KEPT.items():
    os.environ.setdefault(_name, _value)
SETTINGS = {name: os.environ[name] for name in ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES", *THREADS)}
