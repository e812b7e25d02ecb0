"""How studies are run: a run is its settings, nothing is lost, the tables tell what was found."""

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from argparse import Namespace
from dataclasses import asdict, replace
from statistics import median

import keras
import numpy as np
import pytest
import study.tasks
from study import carry_out, comparison, engines, music, protocol, ranks, report, results, training
from study.task import Part, Task
from study.training import Run

import keras_gated as kg

COMPILED = keras.backend.backend() == "jax"  # on which a run without XLA takes minutes
RUN = Run("tones", "gru", 5, seed=3, learning_rate=5e-3, epochs=3, buckets=2, compiled=COMPILED)


def tones(folder=None) -> Task:
    """Frames of 88 keys of which the next is the last, shifted; pieces of unlike length."""
    rng = np.random.default_rng(0)
    rolls = [np.eye(88, dtype="float32")[np.arange(n) + rng.integers(40)] for n in range(5, 29)]
    parts = [music.next_frames(rolls[at::3]) for at in range(3)]
    return Task("tones", *parts, 88, music.nats, "nats per time step", lambda: {"chance": 61.0})


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(study.tasks.TASKS, "tones", tones)
    study.tasks.load.cache_clear()
    yield
    study.tasks.load.cache_clear()
    training.kept.cache_clear()


def numbers(result: dict) -> dict:
    return {key: value for key, value in result.items() if "seconds" not in key}


# ------------------------------------------------------------------------------------------- a run


def test_a_run_is_its_settings_whatever_ran_before():
    first = training.train(RUN)
    others = replace(RUN, seed=4), replace(RUN, learning_rate=1e-3)
    apart = [training.train(run)["test"] for run in others]
    assert numbers(training.train(RUN)) == numbers(first)
    training.kept.cache_clear()
    assert numbers(training.train(RUN)) == numbers(first)
    assert len({first["test"], *apart}) == 3


def test_the_score_is_the_mean_over_all_time_steps_of_all_pieces():
    task = study.tasks.load("tones")
    model = training.compiled(task, RUN)
    total = steps = 0.0
    for x, y in zip(task.test.sequences, task.test.targets, strict=True):
        logits = np.float64(model.predict([x[None], np.array([len(x)])], verbose=0)[0])
        total += (np.logaddexp(0.0, logits) - y * logits).sum()
        steps += len(x)
    assert training.scores(model, task, RUN)["test"] == pytest.approx(total / steps, rel=1e-5)


@pytest.mark.long
def test_a_run_goes_back_to_the_weights_that_were_best_on_the_validation_set():
    found = training.train(replace(RUN, epochs=12, patience=3, learning_rate=0.05))
    assert found["valid"] == pytest.approx(min(found["valid_curve"]), abs=1e-4)
    assert found["best_epoch"] == 1 + int(np.argmin(found["valid_curve"]))
    assert found["epochs"] == min(12, found["best_epoch"] + 3)


def test_excerpts_are_learned_from_and_whole_pieces_scored():
    task, run = study.tasks.load("tones"), replace(RUN, excerpt=7)
    pieces = task.train.excerpts(7)
    assert {len(x) for x in pieces.sequences} <= set(range(4, 8))  # of 5 to 26 frames
    for whole, cut in (
        (task.train.sequences, pieces.sequences),
        (task.train.targets, pieces.targets),
    ):
        np.testing.assert_array_equal(np.concatenate(whole), np.concatenate(cut))
    batches = training.learned_from(task, run)
    assert {x.shape[1] for (x, _), *_ in (batches[k] for k in range(len(batches)))} == {7}
    model = training.begin(task, run)
    assert training.scores(model, task, run) == training.scores(model, task, RUN)
    assert training.train(run)["updates_per_epoch"] == -(-len(pieces.sequences) // run.batch_size)


def test_excerpts_need_a_target_for_every_time_step():
    task = study.tasks.load("digits", small=8)
    with pytest.raises(ValueError, match="'digits'"):
        training.learned_from(task, replace(RUN, task="digits", excerpt=7))


def test_what_a_run_tells_of_itself():
    found = training.train(RUN)
    assert found["run"] == asdict(RUN) and json.loads(json.dumps(found)) == found
    assert found["parameters"] == kg.count_parameters("gru", input_dim=88, units=5)
    assert found["updates_per_epoch"] == len(tones().train.batches(8, tones().buckets(2)))
    assert found["test"] < 61.1 and found["seconds"] > 0


@pytest.mark.long
def test_the_rate_falls_to_the_share_asked_for():
    run = replace(RUN, last_rate=0.01, epochs=100)
    rates = [training.rate_of(run).schedule(at, None) for at in (0, 33, 99)]
    assert rates == pytest.approx([5e-3, 5e-3 * 0.67, 5e-5])
    assert training.rate_of(RUN).schedule(2, None) == 5e-3
    fell, stayed = (training.train(replace(RUN, last_rate=share))["test"] for share in (0.01, 1.0))
    assert fell != stayed


def test_a_run_that_diverges_has_a_score_that_no_table_overlooks(tmp_path):
    def broken(targets, logits):
        return music.nats(targets, logits) * float("nan")

    task = replace(study.tasks.load("tones"), score=broken)
    study.tasks.TASKS["broken"] = lambda folder: task
    found = training.train(replace(RUN, task="broken"))
    del study.tasks.TASKS["broken"]
    assert found["test"] == found["valid_curve"][0] == training.DIVERGED
    results.Results(tmp_path / "r.jsonl").add(found)
    assert "NaN" not in (tmp_path / "r.jsonl").read_text()


def test_other_recordings_are_another_run(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"12")
    one = study.tasks.source("speech_a", tmp_path)
    (tmp_path / "notes.txt").write_bytes(b"1")
    assert study.tasks.source("speech_a", tmp_path) == one != ""
    (tmp_path / "a.wav").write_bytes(b"123")
    assert study.tasks.source("speech_a", tmp_path) != one
    assert study.tasks.source("digits", tmp_path) == "" == study.tasks.source("speech_a", None)


def test_rates_are_drawn_as_the_paper_drew_them():
    drawn = np.log(training.draw_rates(4000))
    assert training.draw_rates(10) == training.draw_rates(10)
    assert abs(drawn.mean() + 9) < 4 * 3**0.5 / 4000**0.5
    assert -12.01 < drawn.min() < -11.9 and -6.1 < drawn.max() < -5.99


# ---------------------------------------------------------------------------------------- many runs


def test_a_kill_loses_the_unfinished_run_alone(tmp_path):
    file = tmp_path / "results.jsonl"
    one, two = ({"run": asdict(replace(RUN, seed=seed)), "test": seed} for seed in (1, 2))
    results.Results(file).add(one)
    with open(file, "a") as open_file:
        open_file.write(json.dumps(two)[:40])  # the disk was full, the lights went out
    again = results.Results(file)
    runs = [replace(RUN, seed=seed) for seed in (1, 2, 2)]
    assert again.missing(runs) == runs[1:2]
    again.add(two)
    last = results.Results(file)
    assert last.missing(runs) == [] and last.of(runs[:2]) == [one, two]


def options(**given) -> Namespace:
    usual = {"engine": "here", "workers": 1, "address": None, "smoke": False}
    return Namespace(**{**usual, **given})


def test_a_setting_that_came_later_had_its_default_before(tmp_path):
    file = results.Results(tmp_path / "results.jsonl")
    file.add({"run": {k: v for k, v in asdict(RUN).items() if k != "excerpt"}, "test": 1.0})
    again = results.Results(file.path)
    assert not again.missing([RUN]) and again.missing([replace(RUN, excerpt=9)])


def test_what_is_done_is_not_done_again_and_what_fails_costs_no_other(tmp_path, monkeypatch):
    tried = []

    def train(run, data):
        tried.append(run.seed)
        if run.seed == 1 and tried.count(1) == 1:
            raise RuntimeError("planted")
        return {"run": asdict(run), "valid": 1.0}

    monkeypatch.setattr(engines, "train", train)
    runs = [replace(RUN, seed=seed) for seed in range(3)]
    with pytest.raises(SystemExit, match="1 of 3 runs failed"):
        carry_out.carry_out(runs, results.Results(tmp_path / "r.jsonl"), options())
    carry_out.carry_out(runs, results.Results(tmp_path / "r.jsonl"), options())
    assert tried == [0, 1, 2, 1]


def test_an_address_is_that_of_a_cluster(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setitem(
        engines.ENGINES, "ray", lambda runs, data, **given: asked.append(given) or []
    )
    given = options(engine=None, address="HOST:6379")
    carry_out.carry_out([RUN], results.Results(tmp_path / "r.jsonl"), given)
    assert asked == [{"workers": 1, "address": "HOST:6379"}]


def test_a_run_on_another_backend_is_another_run(monkeypatch):
    units, rates = {("tones", "gru"): 4}, {("tones", "gru"): 1e-3}
    plan = comparison.Comparison("Tones", {"gru": "GRU"}, "gru", units, {"tones": {}}, rates)
    mine = plan.run("tones", "gru", 0)
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    assert replace(mine, backend="another") == plan.run("tones", "gru", 0) != mine


def engine_gives(name: str, **given) -> list[dict]:
    """Two runs of a task that every process knows, by seed, one of them compiled."""
    runs = [
        replace(RUN, task="digits", small=30, seed=seed, compiled=compiled)
        for seed, compiled in enumerate([False, True])
    ]
    ended = dict(engines.ENGINES[name](runs, None, **given))
    for result in ended.values():
        if isinstance(result, Exception):
            raise result
    return [numbers(ended[run]) for run in runs]


@pytest.mark.long
def test_all_cores_give_the_same_numbers():
    assert engine_gives("cores", workers=2) == engine_gives("here")


IDLE = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from study.engines import end_with_parent
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600).result()
"""


@pytest.mark.long
def test_processes_end_with_a_script_that_is_killed(tmp_path):
    """Its output is at an end when the last process that can write to it is gone."""
    (tmp_path / "idle.py").write_text(IDLE)
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(tmp_path / "idle.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=paths) as script:
        assert int(script.stdout.readline()) != script.pid
        script.kill()
        assert script.communicate(timeout=60) == ("", None)


@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="ray is not installed")
def test_a_cluster_of_two_nodes_gives_the_same_numbers():
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    try:
        given = engine_gives("ray", address=cluster.address)
        assert len({node["NodeID"] for node in ray.nodes() if node["Alive"]}) == 2
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert given == engine_gives("here")


# ------------------------------------------------------------------------------- what is made of it


def test_rank_test_and_correction_against_numbers_by_hand():
    assert ranks.rank_test([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert ranks.rank_test([1, 4], [2, 3]) == pytest.approx(1.0)
    assert ranks.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert ranks.holm([0.6, 0.9]) == [1.0, 1.0]
    apart = ranks.rank_test([1, 2, 3], [4, 5, 6])
    assert ranks.least_p(3, 1) == pytest.approx(apart) and ranks.least_p(5, 12) == 24 / 252
    assert ranks.ranks_of({"a": [1.0, 5.0], "b": [2.0, 4.0]}) == {"a": [1, 2], "b": [2, 1]}


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
    for figure in ("curves.png", "ranks.png"):
        assert (tmp_path / figure).stat().st_size > 5000 and figure in page
    assert "GRU" in capsys.readouterr().out
    monkeypatch.setattr(engines, "train", lambda *_: pytest.fail("run twice"))
    comparison.compare(plan, options(out=tmp_path, seeds=3, smoke=False))


@pytest.mark.long
def test_a_search_keeps_the_rate_that_is_best_on_the_validation_set(tmp_path):
    units, given = {("tones", "gru"): 4}, {"compiled": False}
    plan = comparison.Comparison("Tones", {"gru": "GRU"}, "gru", units, {"tones": given}, {})
    comparison.search(plan, options(out=tmp_path, smoke=False), draws=3, epochs=2)
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


# ------------------------------------------------------------------------------------------- music


def test_music_is_read_from_both_kinds_of_file(tmp_path):
    from scipy.io import savemat

    pieces = [[(21, 60, 108), (), (64,)], [(60,), (61, 62)]]
    rolls = np.empty((1, 2), object)
    rolls[0, :] = [music.roll_of(piece).astype("uint8") for piece in pieces]
    savemat(tmp_path / "JSB_Chorales.mat", {f"{part}data": rolls for part in music.PARTS})
    kept = {part: pieces for part in music.PARTS}
    (tmp_path / "Nottingham.pickle").write_bytes(pickle.dumps(kept, protocol=2))
    one, two = (music.read_rolls(name, tmp_path) for name in ("jsb", "nottingham"))
    for part in music.PARTS:
        for a, b in zip(one[part], two[part], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == np.float32
    assert np.flatnonzero(one["test"][0][0]).tolist() == [0, 39, 87]


def test_a_file_that_could_run_something_is_refused(tmp_path):
    (tmp_path / "Nottingham.pickle").write_bytes(pickle.dumps({"train": print}))
    with pytest.raises(pickle.UnpicklingError, match="Received: builti"):
        music.read_rolls("nottingham", tmp_path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="'MuseData.mat', 'MuseData.pic"):
        music.read_rolls("muse", tmp_path)
    with pytest.raises(ValueError, match="'adding_100'.* 'jazz'"):
        study.tasks.load("jazz")


def test_the_next_frame_is_the_target_and_the_first_is_not_scored():
    roll = np.random.default_rng(0).integers(0, 2, (7, 88)).astype("float32")
    part = music.next_frames([roll])
    np.testing.assert_array_equal(part.sequences[0][1:], part.targets[0][:-1])
    np.testing.assert_array_equal(part.targets[0][-1], roll[-1])
    assert isinstance(part, Part) and len(part.sequences[0]) == 6


def test_the_logits_of_music_are_scored_in_nats_a_frame():
    rng = np.random.default_rng(0)
    y, logits = rng.integers(0, 2, (2, 3, 88)), rng.normal(size=(2, 3, 88))
    p = 1 / (1 + np.exp(-logits))
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=-1)
    found = music.nats(y.astype("float32"), logits.astype("float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=1e-5)


def test_versions_and_command_stand_on_every_page(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/home/a/b/run.py", "--data", "/home/me/music"])
    told = report.about(120.0, seeds=3)
    command = f"`KERAS_BACKEND={keras.backend.backend()} python examples/run.py --data music`"
    assert command in told and "/home" not in told
    assert "2 minutes of one processor" in told


def test_what_somebody_wrote_beside_a_page_opens_it(tmp_path):
    sheet = report.Sheet("found", ["set", "cell"], [["jsb", "gru"]])
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
