"""Runs the measurements of `python -m benchmarks`, with progress bars."""

import statistics

import keras

from benchmarks.contenders import make_contenders, make_stacks
from benchmarks.measure import interleaved, peak_memory, seconds
from benchmarks.sizes import (
    ABLATIONS,
    COMPILE,
    DEEP,
    GENERIC,
    LARGE,
    LAYERS,
    MEMORY,
    QUICK,
    QUICK_ABLATIONS,
    SIZES,
    TINY,
    Size,
)
from keras_gated.speed.adapters import BACKEND

COMPARED = ("keras LSTM", "keras GRU", "GatedLSTM", "GatedGRU")


def measure_all(options) -> dict:
    """Returns times by size, compile times and peak memory, in the form of the JSON file."""
    chosen = tuple(Size.read(text) for text in options.size or ())
    only_times = options.quick or chosen
    parts = options.part or (["times"] if only_times else ["times", "compile", "memory"])
    result: dict = {}
    if "compile" in parts:
        result["compile"] = {str(size): _measure_compilation(size, options) for size in COMPILE}
        title = f"first step of {LAYERS} layers, {DEEP}"
        result["compile"][title] = _measure_first_step(title, options)
    if "memory" in parts:
        result["memory"] = _measure_memory(options)
    if "times" in parts:
        sizes = chosen or (QUICK if options.quick else SIZES + LARGE)
        result["sizes"] = {}
        for at, size in enumerate(sizes):
            result["sizes"][str(size)] = _measure_times(
                size, options, f"{at + 1}/{len(sizes)} {size}"
            )
            keras.backend.clear_session()
    return result


def _measure_times(size: Size, options, title: str) -> dict:
    print(title, flush=True)
    ablations = QUICK_ABLATIONS if options.quick else ABLATIONS
    ready = make_contenders(size, options.seed, ablations, last_too=size in LARGE)
    runs = {("train", name): contender.train for name, contender in ready.items()}
    runs |= {
        ("infer", name): contender.infer
        for name, contender in ready.items()
        if not (options.quick and name in (GENERIC, *ablations))  # compiling takes long
    }
    bar = keras.utils.Progbar(len(runs), unit_name="compiled")
    for run in runs.values():
        run()
        bar.add(1)
    repeats, budget = (7, 6.0) if options.quick else (options.repeats, options.seconds)
    bar, medians = keras.utils.Progbar(repeats, unit_name="turn"), {}
    for so_far in interleaved(runs, repeats, budget):
        medians = so_far
        bar.add(1)
    print(flush=True)
    times: dict = {"train": {}, "infer": {}}
    for (kind, name), median in medians.items():
        times[kind][name] = median
    return times


def _measure_first_step(title: str, options) -> dict:
    """Seconds to trace, compile and run a training step of a deep stack, once."""
    print(title, flush=True)
    make_contenders(TINY, options.seed)["keras LSTM"].train()  # starts the compiler
    stacks = make_stacks(DEEP, LAYERS, options.seed)
    bar, found = keras.utils.Progbar(len(stacks), unit_name="compiled"), {}
    for name, stack in stacks.items():
        found[name] = seconds(stack.train)
        bar.add(1)
    return found


def _measure_compilation(size: Size, options) -> dict:
    """Median seconds to compile a training step. The first time includes tracing."""
    print(f"compilation at {size}", flush=True)
    ready = make_contenders(size, options.seed)
    make_contenders(TINY, options.seed)["keras LSTM"].train()  # starts the compiler
    bar, found = keras.utils.Progbar(len(COMPARED), unit_name="compiled"), {}
    for name in COMPARED:
        if compile_ := ready[name].compile:
            found[name] = statistics.median(seconds(compile_) for _ in range(3))
        bar.add(1)
    return found


def _measure_memory(options) -> dict:
    print(f"peak memory at {MEMORY}, {BACKEND}", flush=True)
    bar, peaks = keras.utils.Progbar(len(COMPARED), unit_name="process"), {}
    for name in COMPARED:
        peaks[name] = peak_memory(name, MEMORY, options.seed)
        bar.add(1)
    return {"size": str(MEMORY), "peak": peaks}
