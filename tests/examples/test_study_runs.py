"""Many runs: nothing is lost or done twice, on any engine."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import keras
import pytest
from study import carry_out, comparison, engines, results

from tests.examples.study_runs import RUN, numbers, options

pytestmark = pytest.mark.usefixtures("known")


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


@pytest.fixture(scope="module")
def in_this_process() -> list[dict]:
    return engine_gives("here")


@pytest.mark.long
def test_all_cores_give_the_same_numbers(in_this_process):
    assert engine_gives("cores", workers=2) == in_this_process


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
def test_a_cluster_of_two_nodes_gives_the_same_numbers(in_this_process):
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
    assert given == in_this_process
