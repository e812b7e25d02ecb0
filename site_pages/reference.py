"""The reference: where a public name comes from, and that each is there and documented."""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras_gated as kg

ENTRY = re.compile(r"^::: keras_gated\.(\w+)$(?:\n    options:$)?", re.MULTILINE)


class Undocumented(Exception):
    """A public name without documentation."""


def check(names: Iterable[str], pages: Iterable[str], package: Any = kg) -> None:
    """Checks that each public name has a docstring and one place in the reference.

    Args:
        names: the public ones.
        pages: texts of the reference.
        package: in which the names are found.

    Raises:
        Undocumented: if one has none, or two.
    """
    names = list(names)
    entries = [name for page in pages for name in ENTRY.findall(page)]
    problems = {
        "without a docstring": [n for n in names if not documentation(getattr(package, n))],
        "not in docs/reference": [n for n in names if n not in entries],
        "more than once in docs/reference": sorted({n for n in entries if entries.count(n) > 1}),
        "in docs/reference but not public": [n for n in entries if n not in names],
    }
    found = [f"{what}: {', '.join(of)}" for what, of in problems.items() if of]
    if found:
        raise Undocumented(
            "Every name in keras_gated.__all__ must have a docstring and one "
            f"`::: keras_gated.NAME` in docs/reference. Received: {'; '.join(found)}. Document it, "
            "or take it out of __all__."
        )


def documentation(thing: Any) -> str | None:
    """Returns the own docstring of a class or function; of another object that of its class."""
    own = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    text = vars(own).get("__doc__") if inspect.isclass(own) else own.__doc__
    # dataclasses write the signature where nothing is written
    return None if text and text.startswith(f"{own.__name__}(") else text


def located(page: str) -> str:
    """Returns a page of the reference, each `::: keras_gated.NAME` where it is defined.

    mkdocstrings reads source files without running them, and so does not see what the package
    imports when it is asked for. The anchor lets other pages link to the public name.
    """
    return ENTRY.sub(lambda found: _entry(found[1]), page)


def _entry(name: str) -> str:
    """The entry in place of a page's, whose own options, if any, go on behind it."""
    lines = [f"[](){{ #keras_gated.{name} }}", "", f"::: {_place(name)}", "    options:"]
    return "\n".join([*lines, f"      heading: {name}", f"      toc_label: {name}"])


def _place(name: str) -> str:
    thing = getattr(kg, name)
    if isinstance(thing, Mapping):  # the presets: the class says what they are
        thing = type(thing)
    return f"{thing.__module__}.{thing.__qualname__}"
