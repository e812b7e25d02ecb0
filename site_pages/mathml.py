r"""LaTeX to MathML, which browsers render by themselves: no script comes with the page.

latex2mathml converts one expression. The rows of an `aligned` environment, which it cannot align,
are laid out here.
"""

import re
from html import unescape

from latex2mathml.converter import convert

ALIGNED = re.compile(r"\\begin\{aligned\}(.*)\\end\{aligned\}", re.DOTALL)
MARKED = re.compile(r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</(?:div|span)>', re.DOTALL)


def mathml(latex: str, display: str = "block") -> str:
    """Returns a `<math>` element.

    Args:
        latex: an expression, or one `aligned` environment.
        display: "block" or "inline".
    """
    aligned = ALIGNED.fullmatch(latex.strip())
    body = _table(aligned[1]) if aligned else _inner(latex)
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML" display="{display}">{body}</math>'


def rendered(page: str) -> str:
    """Returns a page of HTML, what pymdownx.arithmatex has marked turned into MathML."""
    return MARKED.sub(_replaced, page)


def _replaced(found: re.Match) -> str:
    tag, latex = found[1], unescape(found[2])
    display = "block" if tag == "div" else "inline"
    return f'<{tag} class="formula">{mathml(latex, display)}</{tag}>'


def _table(body: str) -> str:
    rows = (re.split(r"(?<!\\)&+", row) for row in re.split(r"\\\\\s*", body.strip()))
    cells = ("".join(f"<mtd>{_inner(cell)}</mtd>" for cell in row) for row in rows)
    return f"<mtable>{''.join(f'<mtr>{row}</mtr>' for row in cells)}</mtable>"


def _inner(latex: str) -> str:
    """What stands inside latex2mathml's `<math>`."""
    found = re.sub(r"^<math[^>]*>|</math>$", "", convert(latex.strip(), display="block"))
    return re.sub(r"<mi>(\w{2,})</mi>", r'<mi class="word">\1</mi>', found)
