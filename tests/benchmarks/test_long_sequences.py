"""The benchmark of long sequences: its page, and one layer measured in a process of its own."""

import pytest

from benchmarks import long_sequences
from benchmarks.rounds import count_in

FOUND = {
    "about": {
        "command": "python -m benchmarks.long_sequences",
        "date": "2024-09-17",
        "machine": "a machine",
        "backend": "tensorflow",
        "seed": 3,
        "versions": {"keras": "3.15.1"},
    },
    "limit": 300.0,
    "times": {
        "1024": {"keras LSTM": {"seconds": 0.5, "bytes": 2e6}},
        "4096": {"keras LSTM": None, "min_gru, at once": {"seconds": 0.0625, "bytes": 3e9}},
    },
    "rounds": {
        "digits": {
            "para_gru": {
                "steps": 64,
                "unit": "nats",
                "epochs": 3,
                "before": {"rounds": 5, "score": 2.25},
                "after": {"rounds": None, "score": 0.5},
            }
        }
    },
}


def test_the_page_has_times_memory_and_rounds():
    page = long_sequences.markdown(FOUND)
    for line in (
        "| layer | T = 1,024 | T = 4,096 |",
        "| keras LSTM | 500 |  |",
        "| min_gru, at once |  | 62 |",
        "| min_gru, at once |  | 3,000 |",
        "| digits, para_gru | 64 | 5 | the loop ran | 2.250 | 0.500 |",
    ):
        assert line in page, line


def test_a_process_that_takes_too_long_leaves_a_gap():
    options = long_sequences.parse_arguments(["--limit", "0.01"])
    assert long_sequences.measure_in_new_process("GatedLSTM", 1024, options) is None


@pytest.mark.long
def test_one_layer_in_a_process_of_its_own():
    options = long_sequences.parse_arguments(["--seconds", "0.1"])
    found = long_sequences.measure_in_new_process("para_gru, at once", 64, options)
    assert found["seconds"] > 0 and found["bytes"] > 0


@pytest.mark.long
def test_rounds_of_a_model_that_is_trained():
    found = count_in("digits", "para_gru", seed=0, epochs=1)
    assert 1 < found["before"]["rounds"] <= 24 and found["steps"] > 8
    assert found["after"]["score"] < found["before"]["score"]
