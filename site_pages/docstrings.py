"""An extension of griffe, which reads the docstrings for the reference."""

import re
from textwrap import dedent

from griffe import Extension

# Sections of our docstrings, and the sections of griffe with the same layout.
SECTIONS = {"Example:": "Examples:", "Call arguments:": "Keyword Args: Call arguments:"}
RETURNS = re.compile(r"^Returns:\n((?:(?: {4}.*)?(?:\n|\Z))+)", re.MULTILINE)


class Sections(Extension):
    """Renames the sections of our docstrings before griffe reads them."""

    def on_object(self, *, obj, **_) -> None:
        """griffe calls this for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = rename_sections(obj.docstring.value)


def rename_sections(docstring: str) -> str:
    """Returns a docstring with the section names that griffe knows.

    `Returns:` has whole sentences here; griffe would read the first words as a type.
    """
    for ours, theirs in SECTIONS.items():
        docstring = re.sub(rf"^( *){ours}$", rf"\1{theirs}", docstring, flags=re.MULTILINE)
    return RETURNS.sub(lambda found: f"**Returns:**\n\n{dedent(found[1])}", docstring)
