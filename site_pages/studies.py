"""The overview of the studies, and their figures in the colours of dark pages."""

import re
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"
ORDER = ("gates_study", "ablation_study", "long_memory", "polyphonic_music", "speech_waveform")
OPENING = re.compile(r"# (.*)\n\n\*\*(.*?\?)\*\*\s(.*?)\n\n", re.DOTALL)
FIGURE = re.compile(r"!\[(.*?)\]\(([\w/-]+)\.svg\)")
DARK = {  # colours of the figures (examples/study/figures.py) and those on a dark page
    "#ffffff": "none",
    "#222222": "#dddddd",
    "#737373": "#9a9a9a",
    "#0072b2": "#56b4e9",
    "#d55e00": "#ff9e80",
    "#009e73": "#3fd0a4",
    "#cc79a7": "#e6a3c8",
    "#e69f00": "#e69f00",
}


def names() -> list[str]:
    """Returns the folders of the studies that have a page."""
    found = sorted(path.parent.name for path in RESULTS.glob("*/page.md"))
    return sorted(found, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def overview() -> str:
    """Returns for each study its question, the first sentence of its answer, and its figure."""
    return "\n\n".join(_entry(name) for name in names())


def _entry(name: str) -> str:
    page = (RESULTS / name / "page.md").read_text(encoding="utf-8")
    opening, figure = OPENING.match(page), FIGURE.search(page)
    if not opening or not figure:
        raise ValueError(
            "The page of a study must begin with its title, its question in bold, the answer and a "
            f"figure. Received: docs/results/{name}/page.md. Write question and answer into "
            "comments.md there, and run study.redraw."
        )
    title, question, answer = opening.groups()
    first = re.split(r"(?<=\.)\s", " ".join(answer.split()), maxsplit=1)[0]
    head = f"## [{title.partition(':')[0]}]({name}/page.md)"
    text, file = figure.groups()
    return f"{head}\n\n**{question}** {first}\n\n![{text}]({name}/{file}.svg)\n{{ .small }}"


def show_both(page: str) -> str:
    """Returns a page with each figure twice: for light and for dark. The site shows one."""
    return FIGURE.sub(r"![\1](\2.svg#only-light) ![\1](\2-dark.svg#only-dark)", page)


def dark_figures() -> dict[str, str]:
    """Returns the figures of all studies in dark colours, by their place on the site."""
    return {
        f"results/{path.parent.name}/{path.stem}-dark.svg": in_dark_colours(path.read_text())
        for path in RESULTS.glob("*/*.svg")
    }


def in_dark_colours(svg: str) -> str:
    """Returns an SVG with the colours of a dark page, without a background.

    Raises:
        KeyError: if the figure has a colour for which there is no dark one.
    """
    return re.sub(r"#[0-9a-f]{6}\b(?=[;\"])", lambda found: DARK[found[0]], svg)
