"""Inserts: `<!-- name -->` in a hand-written page is replaced by text from the package.

So numbers and tables on such pages are always those of the present code and results.
"""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import keras_gated as kg
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import find_native_operator
from site_pages import browser, headline, measured, studies, which_cell
from site_pages.idea import write_idea

ROOT = Path(__file__).parents[1]
ROOMS = ROOT / "tests" / "rooms.py"
COMMENT = re.compile(r"<!-- ([\w ]+) -->")


def fill_inserts(page: str) -> str:
    """Returns a page with every insert replaced.

    Raises:
        KeyError: if there is no insert of that name.
    """
    return COMMENT.sub(lambda match: INSERTS[match[1]](), page)


def count_native_presets() -> str:
    """Returns how many presets are exported as one ONNX operator."""
    return str(
        sum(
            find_native_operator(resolve(kg.preset(name))).operator is not None
            for name in kg.presets
        )
    )


def module_table() -> str:
    """Returns a table of the modules in the order in which they may import one another."""
    for node in ast.walk(ast.parse(ROOMS.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "ROOMS":
            text = str(next(n.value for n in ast.walk(node) if isinstance(n, ast.Constant)))
            lines = (line.strip().partition(":") for line in text.strip().split("\n"))
            rows = (f"| `{folder or 'keras_gated'}` | {modules} |" for folder, _, modules in lines)
            return "\n".join(["| folder | modules |", "| --- | --- |", *rows])
    raise KeyError(f"{ROOMS} has no ROOMS")


def page_body(file: str) -> str:
    """Returns a Markdown file of the repository without its title; links to files become names."""
    text = (ROOT / file).read_text(encoding="utf-8")
    title, _, body = text.partition("\n")
    if not title.startswith("# "):
        raise ValueError(f"The first line of {file} must be its title. Received: {title!r}.")
    return re.sub(r"\[([^]]+)\]\((?!http)[^)]+\)", r"`\1`", body).strip()


INSERTS: dict[str, Callable[[], str]] = {
    "browser": browser.link,
    "budget table": which_cell.budget_table,
    "changes": lambda: page_body("CHANGELOG.md"),
    "contributing": lambda: page_body("CONTRIBUTING.md"),
    "examples": lambda: page_body("examples/README.md"),
    "fused presets": which_cell.fused_presets,
    "gpu times": which_cell.gpu_sentence,
    "gpu wins": which_cell.gpu_wins,
    "gru wins": which_cell.gru_against_lstm,
    "idea": write_idea,
    "int8 lines": which_cell.int8_sentence,
    "int8 table": measured.int8_table,
    "long times": which_cell.long_sentence,
    "many streams": measured.streams_table,
    "native": count_native_presets,
    "presets": lambda: str(len(kg.presets)),
    "rooms": module_table,
    "runtimes": which_cell.runtimes_sentence,
    "scan times": which_cell.scan_times,
    "shares table": measured.shares_table,
    "speed table": measured.speed_table,
    "stream steps": which_cell.stream_steps,
    "studies": studies.overview,
    "task table": which_cell.task_table,
    **headline.INSERTS,
}
