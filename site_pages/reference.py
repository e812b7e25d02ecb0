"""The reference: checks that every public name is in it, and finds where each name is defined.

A page of docs/reference has a line `::: keras_gated.NAME` for each name.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras_gated as kg

ENTRY = re.compile(r"^::: keras_gated\.(\w+)$(?:\n    options:$)?", re.MULTILINE)


class Undocumented(Exception):
    """Raised if a public name has no docstring, or is not in the reference exactly once."""


def check_reference(names: Iterable[str], pages: Iterable[str], package: Any = kg) -> None:
    """Checks that each public name has a docstring and exactly one entry in the reference.

    Args:
        names: the public names.
        pages: texts of the pages of the reference.
        package: the package that has the names.

    Raises:
        Undocumented: if a name has no docstring, no entry or two entries.
    """
    names = list(names)
    entries = [name for page in pages for name in ENTRY.findall(page)]
    problems = {
        "without a docstring": [n for n in names if not documentation(getattr(package, n))],
        "not in docs/reference": [n for n in names if n not in entries],
        "more than once in docs/reference": sorted({n for n in entries if entries.count(n) > 1}),
        "in docs/reference but not public": [n for n in entries if n not in names],
    }
    texts = [f"{problem}: {', '.join(these)}" for problem, these in problems.items() if these]
    if texts:
        raise Undocumented(
            "Every name in keras_gated.__all__ must have a docstring and one entry "
            f"`::: keras_gated.NAME` in docs/reference. Received: {'; '.join(texts)}. Document it, "
            "or remove it from __all__."
        )


def documentation(thing: Any) -> str | None:
    """Returns the docstring of a class or function, not an inherited one.

    For another object it is the docstring of its class.
    """
    own = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    text = vars(own).get("__doc__") if inspect.isclass(own) else own.__doc__
    # A dataclass without a docstring gets its signature as one.
    return None if text and text.startswith(f"{own.__name__}(") else text


def expand_entries(page: str) -> str:
    """Returns a page of the reference with the module of each name in its entry.

    mkdocstrings reads source files without running them, so it does not see names that the package
    imports only when they are used. The anchor lets other pages link to the public name.
    """
    return ENTRY.sub(lambda match: _entry(match[1]), page)


def _entry(name: str) -> str:
    """The new entry. Options that the page gives for this entry follow after it."""
    lines = [f"[](){{ #keras_gated.{name} }}", "", f"::: {_full_name(name)}", "    options:"]
    return "\n".join([*lines, f"      heading: {name}", f"      toc_label: {name}"])


def _full_name(name: str) -> str:
    thing = getattr(kg, name)
    if isinstance(thing, Mapping):  # kg.presets: its class has the docstring
        thing = type(thing)
    return f"{thing.__module__}.{thing.__qualname__}"
