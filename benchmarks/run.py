"""The measurements of one command, with their progress shown."""

import keras

from benchmarks.contenders import BACKEND, contenders
from benchmarks.measure import interleaved, peak_memory, seconds
from benchmarks.sizes import ABLATIONS, COMPILE, MEMORY, QUICK, QUICK_ABLATIONS, SIZES, Size

COMPARED = ("keras LSTM", "keras GRU", "GatedLSTM", "GatedGRU")


def measured(options) -> dict:
    """Returns times by size, compile times and peak memory, as in the results file."""
    given = tuple(Size.read(text) for text in options.size or ())
    sizes = given or (QUICK if options.quick else SIZES)
    result: dict = {"sizes": {}, "compile": {}}
    for at, size in enumerate(sizes):
        title = f"{at + 1}/{len(sizes)} {size}"
        result["sizes"][str(size)], first = _times(size, options, title)
        if size == COMPILE[0] and at:  # the first size pays for the start of the compiler
            result["compile"][str(size)] = {name: first[name] for name in COMPARED}
        keras.backend.clear_session()
    if not options.quick and not given:
        result["compile"][str(COMPILE[1])] = _compilation(COMPILE[1], options)
        result["memory"] = _memory(options)
    return result


def _times(size: Size, options, title: str) -> tuple[dict, dict]:
    print(title, flush=True)
    ready = contenders(size, options.seed, QUICK_ABLATIONS if options.quick else ABLATIONS)
    bar = keras.utils.Progbar(len(ready), unit_name="compiled")
    first = {}
    for name, contender in ready.items():
        first[name] = seconds(contender.train)
        contender.infer()
        bar.add(1)
    runs = {
        (kind, name): getattr(contender, kind)
        for kind in ("train", "infer")
        for name, contender in ready.items()
    }
    repeats, budget = (7, 6.0) if options.quick else (options.repeats, options.seconds)
    bar, medians = keras.utils.Progbar(repeats, unit_name="turn"), {}
    for so_far in interleaved(runs, repeats, budget):
        medians = so_far
        bar.add(1)
    print(flush=True)
    times: dict = {"train": {}, "infer": {}}
    for (kind, name), median in medians.items():
        times[kind][name] = median
    return times, first


def _compilation(size: Size, options) -> dict:
    """The first training step at another length: tracing, compilation and one run."""
    print(f"compilation at {size}", flush=True)
    ready = contenders(size, options.seed)
    return {name: seconds(ready[name].train) for name in COMPARED}


def _memory(options) -> dict:
    print(f"peak memory at {MEMORY}, {BACKEND}", flush=True)
    bar, peaks = keras.utils.Progbar(len(COMPARED), unit_name="process"), {}
    for name in COMPARED:
        peaks[name] = peak_memory(name, MEMORY, options.seed)
        bar.add(1)
    return {"size": str(MEMORY), "peak": peaks}
