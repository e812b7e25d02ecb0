"""Elements of SVG pictures, each as a text.

`kind` is the CSS class of an element; colours and lines are set in docs/stylesheets/site.css. `x`
and `y` are the centre of a box, circle or sign.
"""

import re
from collections.abc import Iterable
from html import escape
from math import atan2, cos, pi, sin

SUBSCRIPT = re.compile(r"_\{([\w-]+)\}")


def picture(width: int, height: int, title: str, elements: Iterable[str], kind: str) -> str:
    """Returns an `<svg>` that can be put into a page."""
    head = f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img">'
    return f"{head}<title>{escape(title)}</title>{''.join(elements)}</svg>"


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "middle") -> str:
    """Returns a text. What is in `_{}` becomes a subscript."""
    first, *rest = SUBSCRIPT.split(content)
    for k, part in enumerate(rest):
        lowered = 'class="sub" dy="4"' if k % 2 == 0 else 'dy="-4"'
        first += f"<tspan {lowered}>{part}</tspan>" if part else ""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{first}</text>'


def path(kind: str, *points: tuple[float, float]) -> str:
    """Returns a line through points."""
    return f'<path class="{kind}" d="M{" L".join(f"{x:g} {y:g}" for x, y in points)}"/>'


def arrow(kind: str, *points: tuple[float, float]) -> str:
    """Returns a line through points with an arrowhead at its end."""
    (x0, y0), (x, y) = points[-2:]
    return path(kind, *points) + _head(kind, x, y, atan2(y - y0, x - x0))


def arc(kind: str, start: float, end: float, y: float, rise: float) -> str:
    """Returns an arrow from one x to another, as an arc above y."""
    top = y - rise
    line = f"M{start:g} {y:g} C{start:g} {top:g} {end:g} {top:g} {end:g} {y:g}"
    return f'<path class="{kind}" d="{line}"/>' + _head(kind, end, y, pi / 2)


def _head(kind: str, x: float, y: float, angle: float) -> str:
    corners = ((x - 7 * cos(angle + turn), y - 7 * sin(angle + turn)) for turn in (-0.4, 0.4))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in ((x, y), *corners))
    return f'<polygon class="{kind}-head" points="{points}"/>'


def box(kind: str, x: float, y: float, width: float, height: float) -> str:
    """Returns a rectangle."""
    return (
        f'<rect class="{kind}" x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width:g}" '
        f'height="{height:g}" rx="4"/>'
    )


def circle(kind: str, x: float, y: float, radius: float) -> str:
    """Returns a circle."""
    return f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>'


def sign(x: float, y: float, symbol: str) -> str:
    """Returns a circle with a sign in it, × or +: a product or a sum of vectors."""
    return circle("node", x, y, 10) + text(x, y + 5, symbol, "sign")
