"""How docstrings are read for the reference: an extension of griffe, which reads them."""

import re
from textwrap import dedent

from griffe import Extension

# Sections of ours, and those of griffe that are laid out in the same way.
SECTIONS = {"Example:": "Examples:", "Call arguments:": "Keyword Args: Call arguments:"}
RETURNS = re.compile(r"^Returns:\n((?:(?: {4}.*)?(?:\n|\Z))+)", re.MULTILINE)


class Sections(Extension):
    """Lets griffe know the sections of our docstrings."""

    def on_object(self, *, obj, **_) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = renamed(obj.docstring.value)


def renamed(docstring: str) -> str:
    """Returns a docstring with its sections as griffe has them.

    `Returns:` has whole sentences here; griffe would read the first words as a type.
    """
    for ours, theirs in SECTIONS.items():
        docstring = re.sub(rf"^( *){ours}$", rf"\1{theirs}", docstring, flags=re.MULTILINE)
    return RETURNS.sub(lambda found: f"**Returns:**\n\n{dedent(found[1])}", docstring)
