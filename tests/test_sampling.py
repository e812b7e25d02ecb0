"""Which parameter sets of a test run by default."""

from types import SimpleNamespace

import pytest

from tests.sampling import applies, choose, mark_rest, values_of


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

    def __init__(self, nodeid, *marks, **params):
        self.nodeid, self.marks = f"{nodeid}[{params}]", {mark.name: mark for mark in marks}
        self.callspec = SimpleNamespace(params=params)

    def get_closest_marker(self, name):
        return self.marks.get(name)

    def add_marker(self, name):
        self.marks[name] = True


def test_the_rest_is_long_and_what_is_long_is_not_counted():
    few, long = pytest.mark.sampled(2).mark, pytest.mark.long.mark
    sampled = [Item("file::test_a", few, *([long] if k < 3 else []), name=k) for k in range(8)]
    others = [Item("file::test_b", name=k) for k in range(8)]
    mark_rest([*sampled, *others])
    assert sum("long" not in item.marks for item in sampled) == 2
    assert not any("long" in item.marks for item in others)


def test_a_sample_of_pytests_own_items_differs_in_every_parameter(request):
    """The items of the test below, as pytest makes them."""
    items = [item for item in request.session.items if item.name.startswith("test_of_pairs[")]
    if len(items) < 9:
        pytest.skip("the other test of this file was not collected")
    few = pytest.mark.sampled(3).mark
    copies = [Item("file::test_c", few, **item.callspec.params) for item in items]
    mark_rest(copies)
    chosen = [item.callspec.params for item in copies if "long" not in item.marks]
    for name in ("one", "other"):
        assert sorted(pair[name]["at"] for pair in chosen) == [0, 1, 2]


@pytest.mark.parametrize("one", [{"at": k} for k in range(3)])
@pytest.mark.parametrize("other", [{"at": k} for k in range(3)])
def test_of_pairs(one, other, request):
    """Sets that share a value are seen to do so."""
    assert values_of(request.node) == {"one": repr(one), "other": repr(other)}
