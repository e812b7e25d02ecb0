"""The tasks by name."""

from functools import cache, partial
from pathlib import Path

from study import memory, music, speech
from study.task import Task

TASKS = {
    **{name: partial(music.music, name) for name in ("chorales", *music.FILES)},
    **{name: partial(speech.speech, name, **given) for name, given in speech.SETS.items()},
    "adding": memory.adding,
    "copying": memory.copying,
    "digits": memory.digits,
    "vowels": memory.vowels,
}


@cache
def load(name: str, data: Path | None = None, small: int | None = None) -> Task:
    """The task of that name.

    Args:
        name: of TASKS.
        data: folder of those that read files of one's own.
        small: number of sequences kept of each part, None for all.
    """
    if name not in TASKS:
        raise ValueError(f"A task must be one of {sorted(TASKS)}. Received: {name!r}.")
    if small:
        return load(name, data).smaller(small)
    return TASKS[name](data)
