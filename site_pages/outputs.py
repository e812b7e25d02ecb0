"""Runs the code of a guide when the site is built, and shows what it prints and draws.

The pages stay plain Markdown: a block of Python, or of `keras-gated` commands, is followed on the
site by what it printed. `<!-- figure NAME.svg: text -->` becomes the figure that the code above
saved under that name; the text is for those who cannot see it. Blocks run in order and share their
names, as for a reader who copies all of them; tests/docs/run_pages.py runs pages in the same way.
A block that begins with "```python static" is not run: it needs minutes, or torch.
"""

import contextlib
import functools
import html
import io
import re
import shlex
import tempfile
from pathlib import Path

CODE = re.compile(r"^```(python|sh)( static)?\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"^<!-- figure ([\w-]+\.svg): (.+?) -->$", re.MULTILINE | re.DOTALL)
COMMANDS = {
    "list",
    "show",
    "diff",
    "budget",
    "export",
    "check",
    "gates",
}  # quick, and not of a machine


class CodeError(Exception):
    """A block of a page failed."""


@functools.cache  # `mkdocs serve` builds every page anew whenever one file changes
def add_outputs(markdown: str, page: str) -> str:
    """Returns a page with the output of its code.

    Args:
        markdown: the text of the page.
        page: its name, for errors.

    Raises:
        CodeError: if a block raises, or if there is no figure of that name.
    """
    names: dict = {"__name__": "page"}

    def run(match: re.Match) -> str:
        language, static, code = match.groups()
        block = f"```{language}\n{code}```\n"
        if static:
            return block
        output = _run(language, code, names, page)
        return f"{block}\n```{{.text .output}}\n{output.rstrip()}\n```\n" if output else block

    def place(match: re.Match) -> str:
        file, text = Path(match[1]), " ".join(match[2].split())
        if not file.exists():
            raise CodeError(f"{page}: no block saves {file}")
        return _inline(file.read_text(encoding="utf-8"), text)

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), _figure_style():
        return FIGURE.sub(place, CODE.sub(run, markdown))


def _run(language: str, code: str, names: dict, page: str) -> str:
    """Returns what a block prints."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            if language == "python":
                exec(compile(code, page, "exec"), names)
            else:
                _run_commands(code)
    except BaseException as error:
        raise CodeError(f"{page}: {type(error).__name__}: {error}\nin the block\n{code}") from error
    return printed.getvalue()


def _run_commands(code: str) -> None:
    """Runs the commands of a block if all of them are quick commands of keras-gated."""
    from keras_gated.cli.main import main

    lines = [shlex.split(line, comments=True) for line in code.replace("\\\n", " ").splitlines()]
    commands = [words for words in lines if words]
    if all(words[0] == "keras-gated" and words[1] in COMMANDS for words in commands):
        for words in commands:
            if status := main(words[1:]):
                raise RuntimeError(f"{shlex.join(words)} ended with the exit status {status}")


def _figure_style():
    import matplotlib

    # Texts stay texts, and what lies behind them is the page, light or dark.
    options = {"svg.fonttype": "none", "savefig.transparent": True, "legend.frameon": False}
    return matplotlib.rc_context(options)


def _inline(svg: str, text: str) -> str:
    """Returns a figure in the colours of the page: what is black follows light and dark."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"#000000|(?<=: )black", "currentColor", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r">\s+<", "><", svg).replace("\n", " ")
    svg = svg.replace("<svg ", '<svg fill="currentColor" aria-hidden="true" ', 1)
    label = html.escape(text, quote=True)
    return (
        f'<figure class="output" role="img" aria-label="{label}" data-search-exclude>{svg}</figure>'
    )
