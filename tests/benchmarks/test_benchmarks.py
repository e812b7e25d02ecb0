"""The benchmarks' own arithmetic; how fast anything is, no test says."""

import pytest

from benchmarks import __main__ as command
from benchmarks import cells, device, onnx
from benchmarks.contenders import make_contenders
from benchmarks.measure import interleaved
from benchmarks.report import geometric_mean, markdown, ratios
from benchmarks.sizes import QUICK_ABLATIONS, SHARES, Size

ABOUT = {
    "command": "python -m benchmarks",
    "date": "2024-09-17",
    "machine": "a machine",
    "backend": "tensorflow",
    "seed": 3,
    "versions": {"keras": "3.15.1"},
}
TIMES = {"keras LSTM": 0.3, "GatedLSTM": 0.1, "nfg": 0.08}
RESULT = {
    "about": ABOUT,
    "sizes": {str(Size(1, 2, 3, 4)): {"train": TIMES, "infer": TIMES | {"GatedLSTM": 0.6}}},
    "compile": {"(1, 2, 3, 4)": {"GatedLSTM": 1.25}},
    "memory": {"size": "(1, 2, 3, 4)", "peak": {"GatedLSTM": 3 * 2**20}},
}


def test_a_ratio_above_one_says_that_ours_is_faster():
    pair = "GatedLSTM against keras LSTM"
    assert ratios(RESULT, "train") == {pair: [pytest.approx(3.0)]}
    assert ratios(RESULT, "infer") == {pair: [pytest.approx(0.5)]}
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


def test_the_page_shows_what_was_measured_and_where():
    page = markdown(RESULT)
    for line in (
        "`python -m benchmarks`, 2024-09-17; a machine; seed 3. Keras backend: tensorflow. "
        "keras 3.15.1.",
        "| GatedLSTM | 100.0 |",
        "| GatedLSTM against keras LSTM | 3.00 | 3.00 |",
        "| nfg of GatedLSTM | 0.80 |",
        "| GatedLSTM | 1.2 |",
        "| GatedLSTM | 3 |",
    ):
        assert line in page, line
    assert "janet" not in page and "torch" not in page  # not measured, not shown


def test_runs_are_taken_in_turns_and_medians_given():
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    medians = list(interleaved(runs, repeats=5, budget=60.0))
    assert order == list("ab") * 5
    assert len(medians) == 5 and set(medians[-1]) == {"a", "b"}
    assert len(list(interleaved(runs, repeats=50, budget=0.0))) == 3


def test_what_the_tables_compare_is_there():
    there = make_contenders(Size(2, 3, 2, 4), 0, QUICK_ABLATIONS)
    assert {"keras LSTM", "GatedLSTM", "GatedGRU", "keras RNN(GatedCell lstm)"} <= set(there)
    assert {"nfg", "janet", "mgu"} <= {part for part, _ in SHARES} & set(there)


def test_the_pages_on_onnx_show_what_was_measured():
    row = {"preset": "mgu", "size": [1, 2, 3, 4], "native": 2.0, "scan": 1.0, "loop": 6.0}
    page = onnx.markdown(ABOUT, [row | {"auto": "native"}])
    assert "| mgu | (1, 2, 3, 4) | 2 | 1 | 6 | 3.00 | 0.50 | native | 2.00 |" in page
    result = {
        "about": ABOUT,
        "steps": [{"preset": "lstm", "session": 0.1, "predict_on_batch": 4.0}],
        "int8": [
            {"preset": "gru", "units": 8, "float32": 1.0, "int8": 4.0, "float32 bytes": 200}
            | {"int8 bytes": 50}
        ],
        "streams": [{"streams": "rows", "count": 10, "step": 0.05, "bytes": 2048.0}],
    }
    page = device.markdown(result)
    assert "| lstm | 0.100 | 4.00 | 0.025 |" in page
    assert "| gru 8 | 1.000 | 4.000 | 0.25 | 0.25 |" in page
    assert "| 10, rows | 0.050 | 2 |" in page
    del result["steps"]  # not measured, not shown
    assert "predict_on_batch" not in device.markdown(result)


def test_cells_are_measured_once_and_runs_of_other_machines_are_named():
    runs = []
    assert [cells.find_run(runs, dict(ABOUT)) for _ in range(2)] == [0, 0]
    assert cells.find_run(runs, {**ABOUT, "machine": "another machine"}) == 1
    times = {"train": 0.01, "train of keras LSTM": 0.02, "onnx": 1e-4, "onnx of keras LSTM": 5e-5}
    row = {"run": 0, "weights": 16512, "bytes": 70000, "operator": "GRU", **times}
    result = {"runs": runs, "cells": {"mgu": row, "gru": {**row, "weights": 1}}}
    page = cells.markdown(result)
    assert "| mgu | 16,512 | 70,000 | GRU | 10 | 0.50 | 0.1 | 2.00 | 1 |" in page
    assert "Run 2: " in page and "another machine" in page
    assert cells.is_current("mgu", result["cells"])
    assert not cells.is_current("gru", result["cells"])  # it has other weights now
    assert not cells.is_current("lstm", result["cells"])
    assert "| run |" not in cells.markdown({"runs": runs[:1], "cells": {"mgu": row}})


def test_a_backend_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    monkeypatch.setattr("os.environ", {})
    with pytest.raises(SystemExit, match=r"'torch'.*not installed.*pip install \"\.\[torch\]\""):
        command.set_up(command.parse_arguments(["--backend", "torch"]))


def test_a_part_for_results_of_another_machine_is_refused_before_it_is_measured(
    tmp_path, monkeypatch
):
    command.write(tmp_path, "tensorflow", {"about": {**ABOUT, "seed": 4}}, "a page")
    arguments = ["benchmarks", "--part", "times", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr("benchmarks.run.measure_all", lambda options: pytest.fail("it measured"))
    with pytest.raises(SystemExit, match="comes from another machine.*--out"):
        command.main()
