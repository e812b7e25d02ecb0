"""A result is that of a specification, of data and of settings: a changed one is never mixed in."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from study import comparison, identity, results, training

import keras_gated as kg
from tests.examples.study_runs import RUN, options, tones

pytestmark = pytest.mark.usefixtures("known")


@pytest.fixture
def mine():
    """Registers cells that are gone after the test."""
    before = dict(kg.presets._by_name)
    yield lambda spec: kg.presets.add("mine", "a cell of mine", spec, paper="none")
    kg.presets._by_name.clear()
    kg.presets._by_name.update(before)


def plan_of(**settings):
    units, rates = {("tones", "mine"): 4}, {("tones", "mine"): 1e-3}
    return comparison.Comparison("", {"mine": "mine"}, "mine", units, {"tones": settings}, rates)


def test_a_cell_with_a_new_specification_is_run_again_under_its_name(mine, tmp_path):
    mine(kg.preset("gru"))
    file = results.Results(tmp_path / "results.jsonl")
    (old,) = plan_of().runs(1)
    file.add({"run": asdict(old), "test": 1.0})
    mine(replace(kg.preset("gru"), use_bias=False))
    (new,) = plan_of().runs(1)
    again = results.Results(file.path)
    assert again.missing([new]) == [new] and again.of([new]) == []
    mine(kg.preset("gru"))
    (back,) = plan_of().runs(1)
    assert again.missing([back]) == [] and again.of([back])[0]["test"] == 1.0


def test_a_run_is_built_from_its_specification_whatever_has_the_name_later(mine):
    mine(replace(kg.preset("lstm"), forget_gate=1.0))
    (run,) = plan_of().runs(1)
    mine(kg.preset("gru"))
    layer = training.build(tones(), run).get_layer("cell")
    assert layer.cell.spec == replace(kg.preset("lstm"), forget_gate=1.0)
    assert identity.spec_from(run.spec) == layer.cell.spec


def test_every_setting_that_changes_numbers_makes_another_run(mine, monkeypatch, tmp_path):
    mine(kg.preset("gru"))
    file = results.Results(tmp_path / "results.jsonl")
    (run,) = plan_of().runs(1)
    file.add({"run": asdict(run), "test": 1.0})
    for field, value in asdict(run).items():
        other = value + 1 if isinstance(value, int | float) else f"{value}x"
        changed = replace(run, **{field: other})
        assert file.missing([changed]) == [changed], field
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    (elsewhere,) = plan_of().runs(1)
    assert elsewhere.threads != run.threads and elsewhere.device != run.device


def test_other_numbers_or_another_score_are_other_data():
    task, same = tones(), tones()
    text = identity.data_text(task)
    assert text == identity.data_text(same)
    louder = [2 * x for x in task.test.sequences]
    later = [np.roll(y, 1, axis=0) for y in task.train.targets]
    others = [
        replace(task, test=replace(task.test, sequences=louder)),
        replace(task, train=replace(task.train, targets=later)),
        replace(task, valid=task.valid.first(3)),
        replace(task, score=lambda y, guess: 1.01 * task.score(y, guess)),
        replace(task, shares=-1.0),
    ]
    assert len({text, *map(identity.data_text, others)}) == 1 + len(others)


def test_lines_of_an_older_version_stay_in_the_file_and_count_for_nothing(
    mine, tmp_path, monkeypatch, capsys
):
    mine(kg.preset("gru"))
    (run,) = plan_of().runs(1)
    old = {"run": {k: v for k, v in asdict(run).items() if k not in ("spec", "data")}, "test": 9.0}
    path = tmp_path / "results.jsonl"
    path.write_text(text := json.dumps(old) + "\n")
    file = results.Results(path)
    assert file.unknown == 1 and file.missing([run]) == [run] and file.of([run]) == []
    monkeypatch.setattr(
        "study.engines.train", lambda run, _: {"run": asdict(run), "test": 1.0, "valid": 1.0}
    )
    comparison.carry_out([run], file, options())
    assert "1 lines of" in " ".join(capsys.readouterr().err.split())
    assert path.read_text().startswith(text) and len(path.read_text().splitlines()) == 2
    assert results.Results(path).of([run])[0]["test"] == 1.0


def test_versions_of_all_lines_are_named():
    from study.versions import versions_text

    lines = [{"versions": {"keras": v, "numpy": "2"}} for v in ("3.14", "3.15", "3.14")]
    assert versions_text([*lines, {}]) == "keras 3.14 and 3.15, numpy 2"
    assert RUN.spec == identity.spec_text("gru")
