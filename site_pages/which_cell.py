"""Tables and numbers of the page "Which cell should I use?", from measured results alone."""

import json
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from statistics import median

import keras_gated as kg
from benchmarks.report import table
from keras_gated.engine.fused import find_fused_operator
from keras_gated.spec.normal_form import resolve
from site_pages.measured import cell_facts, results

DOCS = Path(__file__).parents[1] / "docs"
TASKS = {  # (study, task): what it is
    ("ablation_study", "chorales"): "next chord, Bach chorales",
    ("polyphonic_music", "jsb"): "next chord, JSB",
    ("polyphonic_music", "nottingham"): "next chord, Nottingham",
    ("polyphonic_music", "muse"): "next chord, MuseData",
    ("polyphonic_music", "piano"): "next chord, Piano-midi",
    ("speech_waveform", "speech_a"): "next samples of speech",
    ("ablation_study", "digits"): "class of a digit, 64 pixels one by one",
    ("long_memory", "vowels"): "speaker of a vowel, 7 to 29 steps",
    ("long_memory", "adding_100"): "sum of two marked numbers of 100",
}
LSTMS, GRUS = ("lstm", "lstm_peephole"), ("gru", "gru_chung")
BUDGET = ("lstm", "cifg", "gru", "mgu", "janet", "elman", "sru", "min_gru", "fast_grnn")
LONG = "(16, 4096, 128, 128)"  # a size of the GPU benchmark
LONG_TIME = 16384  # time steps, of the benchmark of long sequences


@lru_cache
def test_scores(study: str, task: str) -> dict[str, list[float]]:
    """Returns the test scores of each cell in a study's task, a score a seed; less is better."""
    scores = defaultdict(list)
    lines = (DOCS / "results" / study / "results.jsonl").read_text(encoding="utf-8")
    for line in map(json.loads, lines.splitlines()):
        if line["run"]["task"] == task:
            scores[line["run"]["cell"]].append(line["test"])
    return dict(scores)


def task_table() -> str:
    """Returns a table: of each task the three cells with the lowest median, and the LSTM."""
    rows = []
    for (study, task), words in TASKS.items():
        scores = test_scores(study, task)
        order = sorted(scores, key=lambda cell: median(scores[cell]))
        cells = dict.fromkeys([*order[:3], _one_of(scores, LSTMS)])
        medians = ", ".join(_score(cell, scores[cell]) for cell in cells)
        seeds = len(next(iter(scores.values())))
        task = f"[{words}](../results/{study}/page.md)"
        rows.append([task, f"{len(scores)} × {seeds}", medians])
    head = ["task", "cells × seeds", "the best three, and the LSTM"]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _score(cell: str, scores: list[float]) -> str:
    return f"[{cell}](../cells/{cell}.md) {median(scores):#.3g}"


def _one_of(scores: dict, names: tuple[str, ...]) -> str:
    return next(name for name in names if name in scores)


def gru_against_lstm() -> str:
    """Returns on how many tasks the GRU's median is lower than the LSTM's, as "7 of 9"."""
    better = 0
    for place in TASKS:
        scores = test_scores(*place)
        gru, lstm = (median(scores[_one_of(scores, names)]) for names in (GRUS, LSTMS))
        better += gru < lstm
    return f"{better} of {len(TASKS)}"


def budget_table() -> str:
    """Returns a table of some cells: weights, bytes and times."""
    whole = cell_facts("lstm")["weights"]
    rows = []
    for name in BUDGET:
        facts = cell_facts(name)
        rows.append(
            [
                f"[{name}](../cells/{name}.md)",
                f"{facts['weights'] / whole:.2f}",
                f"{facts['bytes'] / 1000:.1f} kB",
                f"{facts['train']:.2f}",
                f"{facts['onnx']:.2f}",
                facts["operator"],
            ]
        )
    head = ["cell", "weights, LSTM = 1", "file", "training step", "run in onnxruntime", "operator"]
    return "\n".join(table(head, rows))


def fused_presets() -> str:
    """Returns the names of the presets that torch's own operators run."""
    forms = {name: resolve(kg.preset(name)) for name in kg.presets}
    return ", ".join(f"`{name}`" for name, form in forms.items() if find_fused_operator(form))


def scan_times() -> str:
    """Returns how many times as long Scans take as native nodes at batch 1, up to 128 units."""
    rows = [row for row in results("onnx")["rows"] if row["size"][0] == 1 and row["size"][3] <= 128]
    ratios = [row["scan"] / row["native"] for row in rows]
    return f"{min(ratios):.1f} to {max(ratios):.1f}"


def runtimes_sentence() -> str:
    """Returns how many files the chosen forms got right, in OpenVINO and tract."""
    about = json.loads((DOCS / "runtimes.json").read_text(encoding="utf-8"))
    chosen = {name: (right[0], sum(right)) for name, right in about["chosen"].items()}
    parts = [f"{right} of {of} in {n}" for n, (right, of) in chosen.items() if n in RUNTIMES]
    return ", ".join(parts)


RUNTIMES = ("openvino", "tract", "onnxruntime-web")


def stream_steps() -> str:
    """Returns microseconds of a step of a stream, by cell."""
    steps = {row["preset"]: 1e3 * row["session"] for row in results("device")["steps"]}
    return ", ".join(f"`{name}` {step:.0f} µs" for name, step in steps.items())


def int8_sentence() -> str:
    """Returns what int8 does to an LSTM and to a GRU of 256 units."""
    rows = {(row["preset"], row["units"]): row for row in results("device")["int8"]}
    texts = []
    for name in ("lstm", "gru"):
        row = rows[name, 256]
        faster, share = row["float32"] / row["int8"], row["int8 bytes"] / row["float32 bytes"]
        texts.append(f"`{name}` {faster:.1f} times as fast, {share:.0%} of the bytes")
    return "; ".join(texts)


def gpu_sentence() -> str:
    """Returns times of a training step on the GPU, one after another and at once."""
    sizes = results("gpu")["precisions"]["TF32"]["sizes"]
    times = {name: 1e3 * time for name, time in sizes[LONG]["train"].items()}
    names = ("GatedLSTM", "janet", "min_gru", "min_gru, at once")
    return ", ".join(f"{name} {times[name]:.1f} ms" for name in names) + f" at {LONG}"


def long_sentence() -> str:
    """Returns milliseconds of a training step over a long sequence on the CPU."""
    times = results("long_sequences")["times"][str(LONG_TIME)]
    names = ("keras LSTM", "GatedLSTM", "min_gru", "min_gru, at once")
    texts = ", ".join(f"{name} {1e3 * times[name]['seconds']:,.0f} ms" for name in names)
    return f"{texts} at {LONG_TIME:,} time steps"


def gpu_wins() -> str:
    """Returns at how many sizes cells took less time than the LSTM on the GPU, with JAX."""
    sizes = results("gpu")["precisions"]["TF32"]["sizes"].values()
    trains = [size["train"] for size in sizes if "GatedLSTM" in size["train"]]
    wins = {name: sum(t[name] < t["GatedLSTM"] for t in trains) for name in ("janet", "mgu")}
    texts = [f"`{name}` at {count} of {len(trains)}" for name, count in wins.items()]
    return f"{' and '.join(texts)} sizes"
