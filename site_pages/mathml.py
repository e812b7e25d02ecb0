r"""Turns LaTeX into MathML, which browsers render without a script.

latex2mathml converts one expression. It cannot align the rows of an `aligned` environment; this
file makes a table of them.
"""

import re
from html import unescape

from latex2mathml.converter import convert

ALIGNED = re.compile(r"\\begin\{aligned\}(.*)\\end\{aligned\}", re.DOTALL)
MARKED = re.compile(r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</(?:div|span)>', re.DOTALL)


def to_mathml(latex: str, display: str = "block") -> str:
    """Returns a `<math>` element.

    Args:
        latex: an expression, or one `aligned` environment.
        display: "block" or "inline".
    """
    aligned = ALIGNED.fullmatch(latex.strip())
    body = _table(aligned[1]) if aligned else _inner(latex)
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML" display="{display}">{body}</math>'


def render_formulas(page: str) -> str:
    """Returns a page of HTML with MathML in place of the formulas that arithmatex marked."""
    return MARKED.sub(_render_match, page)


def _render_match(match: re.Match) -> str:
    tag, latex = match[1], unescape(match[2])
    display = "block" if tag == "div" else "inline"
    return f'<{tag} class="formula">{to_mathml(latex, display)}</{tag}>'


def _table(body: str) -> str:
    rows = (re.split(r"(?<!\\)&+", row) for row in re.split(r"\\\\\s*", body.strip()))
    cells = ("".join(f"<mtd>{_inner(cell)}</mtd>" for cell in row) for row in rows)
    return f"<mtable>{''.join(f'<mtr>{row}</mtr>' for row in cells)}</mtable>"


def _inner(latex: str) -> str:
    """The elements inside the `<math>` of latex2mathml."""
    inner = re.sub(r"^<math[^>]*>|</math>$", "", convert(latex.strip(), display="block"))
    return re.sub(r"<mi>(\w{2,})</mi>", r'<mi class="word">\1</mi>', inner)
