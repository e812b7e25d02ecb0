"""Which parameter sets of a test run by default."""

from types import SimpleNamespace

import pytest

from tests.sampling import applies, choose, mark_rest


def config(markexpr="not long", keyword="", args=("tests",)):
    return SimpleNamespace(
        option=SimpleNamespace(markexpr=markexpr, keyword=keyword), args=list(args)
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, True),
        ({"keyword": "not slow"}, True),
        ({"keyword": "lstm"}, False),
        ({"markexpr": "long or not long"}, False),
        ({"markexpr": "long"}, False),
        ({"args": ["tests/layers/test_lengths.py::test_a"]}, False),
    ],
    ids=str,
)
def test_who_chooses_by_name_gets_all(given, expected):
    assert applies(config(**given)) is expected


def test_a_sample_has_as_many_values_as_possible():
    sets = [{"a": k // 4, "b": k % 4} for k in range(16)]
    chosen = [sets[at] for at in choose(sets, 4)]
    assert {s["a"] for s in chosen} == {s["b"] for s in chosen} == {0, 1, 2, 3}
    assert choose(sets, 4) == choose(sets, 4) and choose(sets[:2], 4) == {0, 1}


class Item:
    """What of a pytest item is read."""

    def __init__(self, nodeid, index, *marks):
        self.nodeid, self.marks = f"{nodeid}[{index}]", {mark.name: mark for mark in marks}
        self.callspec = SimpleNamespace(indices={"name": index})

    def get_closest_marker(self, name):
        return self.marks.get(name)

    def add_marker(self, name):
        self.marks[name] = True


def test_the_rest_is_long_and_what_is_long_is_not_counted():
    few, long = pytest.mark.sampled(2).mark, pytest.mark.long.mark
    sampled = [Item("file::test_a", k, few, *([long] if k < 3 else [])) for k in range(8)]
    others = [Item("file::test_b", k) for k in range(8)]
    mark_rest([*sampled, *others])
    assert sum("long" not in item.marks for item in sampled) == 2
    assert not any("long" in item.marks for item in others)
