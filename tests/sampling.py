"""Some tests have many parameter sets that take long: by default a few of them run.

`@pytest.mark.sampled(3)` leaves three of them, which are chosen so that they differ in as many
parameters as possible; the others are marked long. With `-m "long or not long"`, `-k NAME` or a
test's own name on the command line, nothing is left out.
"""

from collections.abc import Sequence

import pytest

DEFAULT = "not long"  # as in pyproject.toml
GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, are spread evenly


def applies(config: pytest.Config) -> bool:
    """Returns whether tests are sampled in this run."""
    chosen = config.option.keyword
    named = any("::" in argument for argument in config.args)
    by_name = named or bool(chosen) and not chosen.startswith("not ")
    return config.option.markexpr == DEFAULT and not by_name


def mark_rest(items: Sequence[pytest.Item]) -> None:
    """Marks parameter sets as long that are not in the sample of their test."""
    tests: dict[str, list] = {}
    for item in items:
        if item.get_closest_marker("sampled") and hasattr(item, "callspec"):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for sets in tests.values():
        short = [item for item in sets if not item.get_closest_marker("long")]
        count = short[0].get_closest_marker("sampled").args[0] if short else 0
        chosen = choose([values_of(item) for item in short], count)
        for at, item in enumerate(short):
            if at not in chosen:
                item.add_marker("long")


def values_of(item: pytest.Item) -> dict[str, str]:
    """Returns {parameter: its value as text}.

    The indices of pytest count parameter sets, so that no two sets would share a value.
    """
    return {name: repr(value) for name, value in item.callspec.params.items()}


def choose(sets: Sequence[dict], count: int) -> set[int]:
    """Returns the places of `count` parameter sets, each with many values that are new.

    Args:
        sets: {parameter: which of its values} for each.
        count: of sets; fewer if there are fewer.
    """
    spread = sorted(range(len(sets)), key=lambda at: at * GOLDEN % 1.0)
    seen: set[tuple] = set()
    chosen: list[int] = []
    for _ in range(min(count, len(sets))):
        left = [at for at in spread if at not in chosen]
        best = max(left, key=lambda at: len(set(sets[at].items()) - seen))
        chosen.append(best)
        seen |= set(sets[best].items())
    return set(chosen)
