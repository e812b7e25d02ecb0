"""Runs the code of a page, as a reader does who copies all of it from top to bottom."""

import importlib
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from keras_gated.cli import main as cli
from tests import ROOT

BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def run_page(page: Path, python: bool = True) -> dict:
    """Runs the Python of a page and its shell commands; returns the names that the Python defined.

    Nothing is defined before: a block can use only what blocks above it define.
    """
    names: dict = {"__name__": "page"}
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            if python:
                exec(compile(block, str(page), "exec"), names)
        elif language == "sh":
            run_lines(block)
        else:
            assert language == "text", f"{page} has code in {language}, which no test runs"
    return names


def run_lines(block: str) -> None:
    """Runs each shell command of a block."""
    for line in re.split(r"\n|&&", block.replace("\\\n", " ")):
        run_command(shlex.split(line.replace(".venv/bin/", ""), comments=True))


def run_command(words: list[str]) -> None:
    """Runs a command on cells and models; of other commands it checks files, options and extras."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    match words:
        case [] | ["export", *_] | ["python", "-m", "venv", _]:
            pass
        case ["keras-gated", "doctor", *_]:  # its answer depends on what is installed here
            assert cli.main(words[1:]) in (0, 1)
        case ["keras-gated", "bench", *arguments]:
            cli.build_parser().parse_args(["bench", *arguments])
        case ["keras-gated", *arguments]:
            assert cli.main(arguments) == 0
        case ["python", "-m", "pytest", *arguments]:
            assert all((ROOT / word).exists() for word in arguments if word.startswith("tests"))
        case ["python", "-m", module, *arguments]:
            program = "benchmarks.__main__" if module == "benchmarks" else module
            importlib.import_module(program).parse_arguments(arguments)
        case ["python", script, *arguments]:
            assert_options_exist(arguments, ROOT / script)
        case ["pip", "install", *arguments]:
            assert_extras_exist(arguments)
        case ["ruff" | "mkdocs" | "pyright" | "nox", *_]:
            pass
        case _:
            pytest.fail(f"no test knows this command: {shlex.join(words)}")


def assert_options_exist(arguments: list[str], script: Path) -> None:
    """Asserts that a script, or the module of the studies, defines the options of a command."""
    files = script, *(ROOT / "examples" / "study").glob("*.py")
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    unknown = [word for word in arguments if word.startswith("--") and f'"{word}"' not in text]
    assert not unknown, f"{script.name} does not take {unknown}"


def assert_extras_exist(arguments: list[str]) -> None:
    """Asserts that pip can install this in a clone: the package is not on PyPI."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in arguments:
        assert not word.startswith(project["name"]), f"{word} is not on PyPI, write .[...]"
        extras = re.fullmatch(r"\.\[(.*)\]", word)
        unknown = set(extras[1].split(",")) - set(project["optional-dependencies"]) if extras else 0
        assert not unknown, f"pyproject.toml has no extra {unknown}"


def assert_ignored(paths: list[str]) -> None:
    """Asserts that git ignores files that a reader's commands write into the clone."""
    if not (ROOT / ".git").exists():
        return
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(command, cwd=ROOT, input="\n".join(paths), capture_output=True, text=True)
    assert set(done.stdout.splitlines()) == set(paths), f"of {paths} git ignores only {done.stdout}"
