"""The command that was really run, as a page names it."""

import os
import shlex
import sys
from pathlib import Path

import keras

from study import DEFAULTS


def command_line() -> str:
    """Returns the command of this process, with the variables that change numbers.

    Absolute paths become relative to the working folder. Of those outside it the last name is left,
    as ".../name": a page is for others, who do not have the folders of this machine.
    """
    backend = f"KERAS_BACKEND={keras.backend.backend()}"
    changed = [f"{k}={os.environ[k]}" for k, v in DEFAULTS.items() if os.environ.get(k, v) != v]
    return " ".join([backend, *changed, shlex.join(map(_short, _words()))])


def _words() -> list[str]:
    """Returns "python", what it ran, and the arguments."""
    given, (program, *arguments) = sys.orig_argv, sys.argv
    if "-m" in given and given[-len(arguments) - 2 :] == ["-m", *given[-len(arguments) - 1 :]]:
        return ["python", "-m", *given[-len(arguments) - 1 :]]
    return ["python", program, *arguments]


def _short(word: str) -> str:
    """Returns a word of the command; `/a/b` and `--option=/a/b` without the folders above."""
    option, equals, value = word.rpartition("=")
    if not os.path.isabs(value):
        return word
    path, here = Path(value), Path.cwd()
    name = path.relative_to(here).as_posix() if path.is_relative_to(here) else f".../{path.name}"
    return f"{option}{equals}{name}"
