"""What is made of runs: ranks, searches, tables and pages."""

import json
from argparse import Namespace
from dataclasses import replace
from statistics import median

import keras
import numpy as np
import pytest
from study import command, comparison, engines, music, protocol, ranks, report, training
from study.sheet import Sheet

from tests.examples.study_runs import RUN, options, tones

pytestmark = pytest.mark.usefixtures("known")


def test_rank_test_and_correction_against_numbers_by_hand():
    assert ranks.rank_test([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert ranks.rank_test([1, 4], [2, 3]) == pytest.approx(1.0)
    assert ranks.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert ranks.holm([0.6, 0.9]) == [1.0, 1.0]
    apart = ranks.rank_test([1, 2, 3], [4, 5, 6])
    assert ranks.least_p(3, 1) == pytest.approx(apart) and ranks.least_p(5, 12) == 24 / 252
    assert [ranks.enough_seeds(tests) for tests in (0, 1, 2, 6, 7, 12, 23, 24)] == [
        4,
        4,
        5,
        5,
        6,
        6,
        6,
        7,
    ]
    assert ranks.ranks_of({"a": [1.0, 5.0], "b": [2.0, 4.0]}) == {"a": [1, 2], "b": [2, 1]}


@pytest.mark.long
def test_a_comparison_from_runs_to_page(tmp_path, monkeypatch, capsys):
    cells = {"elman": "tanh", "gru": "GRU"}
    units = {("tones", cell): 4 for cell in cells}
    given = {"optimizer": "adam", "epochs": 2, "compiled": False}
    rates = comparison.chosen_rates(tmp_path, {"tones": dict.fromkeys(cells, 0.01)})
    plan = comparison.Comparison("Tones", cells, "elman", units, {"tones": given}, rates)
    comparison.compare(plan, options(out=tmp_path, seeds=3, smoke=False))
    found = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    tests = [line["test"] for line in found if line["run"]["cell"] == "gru"]
    page = (tmp_path / "page.md").read_text()
    row = f"{median(tests):.2f} | {min(tests):.2f} to {max(tests):.2f} | "  # four digits each
    assert len(found) == 6 and row in page and "| tones | no cell: chance |" in page
    assert "seeds 0 to 2" in page and f"keras {keras.__version__}" in page
    assert str(tmp_path) not in page
    for figure in ("differences", "curves", "time", "ranks"):
        for ending in ("svg", "pdf"):
            assert (tmp_path / f"{figure}.{ending}").stat().st_size > 5000
        assert f"({figure}.svg)" in page
    assert "GRU" in capsys.readouterr().out
    monkeypatch.setattr(engines, "train", lambda *_: pytest.fail("run twice"))
    comparison.compare(plan, options(out=tmp_path, seeds=3, smoke=False))


@pytest.mark.long
def test_a_search_keeps_the_rate_that_is_best_on_the_validation_set(tmp_path):
    units, given = {("tones", "gru"): 4}, {"compiled": False}
    plan = comparison.Comparison("Tones", {"gru": "GRU"}, "gru", units, {"tones": given}, {})
    comparison.search(plan, options(out=tmp_path, smoke=False), count=3, epochs=2)
    found = [json.loads(line) for line in (tmp_path / "search.jsonl").read_text().splitlines()]
    best = min(found, key=lambda line: line["valid"])["run"]
    assert {line["run"]["learning_rate"] for line in found} == set(training.draw_rates(3))
    assert {line["run"]["seed"] for line in found} == {comparison.SEARCH_SEED}
    assert comparison.chosen_rates(tmp_path, {}) == {("tones", "gru"): best["learning_rate"]}


def test_a_search_has_half_the_epochs_of_a_run_if_none_are_given():
    units, given = {("tones", "gru"): 4}, {"tones": {}}
    plan = comparison.Comparison("Tones", {"gru": "GRU"}, "gru", units, given, {})
    assert {run.epochs for run in plan.search_runs(2)} == {100}
    assert {run.epochs for run in plan.search_runs(2, epochs=7)} == {7}
    one = replace(plan, settings={"tones": {"epochs": 1}})
    assert {run.epochs for run in one.search_runs(2)} == {1}


def test_cells_of_equal_size_have_the_rates_that_were_found_for_them(tmp_path, monkeypatch):
    found = {"digits": {"gru": 0.1, "lstm": 0.2}, "adding_100": {"gru": 0.3}}
    monkeypatch.setattr(protocol, "FOUND", found)
    asked = {"tasks": ["digits", "adding_100"], "cells": ["gru", "elman"], "vanilla": "lstm"}
    asked = Namespace(**asked, data=None, parameters=500, rate=None, out=tmp_path)
    (tmp_path / "rates.json").write_text(json.dumps({"digits": {"gru": 0.4}}))
    runs = comparison.Comparison.of_equal_size("", asked).runs(1)
    rates = {(run.task, run.cell): run.learning_rate for run in runs}
    assert rates == {
        ("digits", "lstm"): 0.2,
        ("digits", "gru"): 0.4,
        ("digits", "elman"): protocol.RATE,
        ("adding_100", "lstm"): protocol.RATE,
        ("adding_100", "gru"): 0.3,
        ("adding_100", "elman"): protocol.RATE,
    }
    assert [run.batch_size for run in runs[::3]] == [16, 64]  # digits are few
    asked.rate = 0.5
    alike = comparison.Comparison.of_equal_size("", asked).runs(1)
    assert {run.learning_rate for run in alike} == {0.5}


def test_versions_and_command_stand_on_every_page(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/home/a/b/run.py", "--data", "/home/me/music"])
    reported = report.about(120.0, seeds=3)
    command = f"`KERAS_BACKEND={keras.backend.backend()} python .../run.py --data .../music`"
    assert command in reported and "/home" not in reported
    assert "2 minutes of one processor" in reported


def test_the_command_on_a_page_is_the_one_that_was_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    backend = f"KERAS_BACKEND={keras.backend.backend()}"
    given = [str(tmp_path / "mine" / "study.py"), f"--plugin={tmp_path}/my file.py", "--tasks", "a"]
    monkeypatch.setattr("sys.argv", given)
    expected = f"{backend} python mine/study.py '--plugin=my file.py' --tasks a"
    assert command.command_line() == expected
    monkeypatch.setattr(
        "sys.orig_argv", ["/usr/bin/python3", "-X", "dev", "-m", "mine.study", "-q"]
    )
    monkeypatch.setattr("sys.argv", [str(tmp_path / "mine" / "study.py"), "-q"])
    assert command.command_line() == f"{backend} python -m mine.study -q"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert command.command_line() == f"{backend} OMP_NUM_THREADS=3 python -m mine.study -q"


def test_what_somebody_wrote_beside_a_page_opens_it(tmp_path):
    sheet = Sheet("found", ["set", "cell"], [["jsb", "gru"]])
    page = tmp_path / "page.md"
    report.write_page(page, "Music", "`command`", [sheet], [])
    plain = page.read_text()
    (tmp_path / "comments.md").write_text("Gates help.\n")
    report.write_page(page, "Music", "`command`", [sheet], [])
    assert page.read_text() == plain.replace("# Music\n", "# Music\n\nGates help.\n")


def test_floors_tell_their_share_of_right_answers():
    task = replace(tones(), right=lambda: {"chance": 0.125})
    *_, row = report.scores("", {}, {"tones": task}, {}).rows
    assert row == ["tones", "no cell: chance", "", "", "", "61.00", "", "12.5%", ""]


def test_what_reads_the_cell_begins_with_the_shares_of_the_keys():
    rng = np.random.default_rng(0)
    rolls = [rng.random((n, 88)) < np.linspace(0, 0.5, 88) for n in (5, 200)]
    part = music.next_frames([roll.astype("float32") for roll in rolls])
    task = replace(tones(), shares=music.shares(part))
    *_, bias = training.build(task, RUN).get_weights()
    share = np.concatenate(part.targets).mean(axis=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), share, atol=0.5 / 203)
    *_, bias = training.build(tones(), RUN).get_weights()
    assert not bias.any()
