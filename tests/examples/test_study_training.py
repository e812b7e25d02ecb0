"""One run of a study: what it learns from, what it says, and that its settings decide it."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import study.tasks
from study import music, results, training

import keras_gated as kg
from tests.examples.study_runs import RUN, numbers, tones

pytestmark = pytest.mark.usefixtures("known")


@pytest.mark.long
def test_a_run_is_its_settings_whatever_ran_before():
    first = training.train(RUN)
    others = replace(RUN, seed=4), replace(RUN, learning_rate=1e-3)
    apart = [training.train(run)["test"] for run in others]
    assert numbers(training.train(RUN)) == numbers(first)
    training.shared_model.cache_clear()
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


@pytest.mark.long
def test_excerpts_are_learned_from_and_whole_pieces_scored():
    task, run = study.tasks.load("tones"), replace(RUN, excerpt=7)
    pieces = task.train.excerpts(7)
    assert {len(x) for x in pieces.sequences} <= set(range(4, 8))  # of 5 to 26 frames
    for whole, cut in (
        (task.train.sequences, pieces.sequences),
        (task.train.targets, pieces.targets),
    ):
        np.testing.assert_array_equal(np.concatenate(whole), np.concatenate(cut))
    batches = training.training_batches(task, run)
    assert {x.shape[1] for (x, _), *_ in (batches[k] for k in range(len(batches)))} == {7}
    model = training.begin(task, run)
    assert training.scores(model, task, run) == training.scores(model, task, RUN)
    assert training.train(run)["updates_per_epoch"] == -(-len(pieces.sequences) // run.batch_size)


def test_excerpts_need_a_target_for_every_time_step():
    task = study.tasks.load("digits", small=8)
    with pytest.raises(ValueError, match="'digits'"):
        training.training_batches(task, replace(RUN, task="digits", excerpt=7))


@pytest.mark.long
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


@pytest.mark.long
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
