"""The file of results has a line for each finished run: a kill loses only unfinished runs.

A line counts as a run's result only if all of the run's settings are in it and are the same: the
specification of the cell, the data, and so on (`training.Run`). Lines of another specification, or
from before lines had one, stay in the file as they are and count for nothing; the runs are done
again. To draw what such a file holds: `python -m study.redraw`.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import MISSING, asdict, fields
from pathlib import Path

from study.training import Run

DEFAULTS = {f.name: f.default for f in fields(Run) if f.default is not MISSING}


class Results:
    """Lines of JSON, one for each finished run, in the order in which they ended.

    Args:
        path: of the file; it need not exist.

    A line that a kill cut off is ignored, and its run is run again. `unknown` is the number of
    lines that do not say which specification they are of; they never count as a run's result.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        lines = list(self._lines())
        self.unknown = sum("spec" not in line["run"] for line in lines)
        self.found = {name_of(line["run"]): line for line in lines if "spec" in line["run"]}

    def _lines(self) -> Iterable[dict]:
        for text in self.path.read_text("utf-8").splitlines() if self.path.exists() else ():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            # Older lines lack newer settings, which had their default then.
            yield {**line, "run": {**DEFAULTS, **line["run"]}}

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """Returns the runs that have no line yet, each once."""
        named = {name_of(asdict(run)): run for run in runs}
        return [run for name, run in named.items() if name not in self.found]

    def of(self, runs: Iterable[Run]) -> list[dict]:
        """Returns the lines of these runs, in their order; a run without a line is left out."""
        names = [name_of(asdict(run)) for run in runs]
        return [self.found[name] for name in names if name in self.found]

    def add(self, result: dict) -> None:
        """Adds a finished run and writes it to the disk."""
        self.found[name_of(result["run"])] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            begins = file.tell() == 0 or self._ends_a_line(file)
            file.write(b"" if begins else b"\n")
            file.write(json.dumps(result, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _ends_a_line(file) -> bool:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def name_of(run: dict) -> str:
    """Returns a text that identifies a run: all its settings."""
    return json.dumps(run, sort_keys=True)
