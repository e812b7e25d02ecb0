"""Writes a file so that nobody ever sees half of it.

The content goes to a draft, in a folder of its own beside the final file:

    models/.keras_gated_<32 digits>.part/model.onnx         the draft
    models/.keras_gated_<32 digits>.part/model.onnx.data    its weights, if the model is large

The draft takes the final name only once it is complete; if anything fails before that, an older
file of that name stays as it was. If the process is killed, the draft's folder stays behind. The
next export to the same folder removes it once it is a day old.
"""

import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRAFT_FOLDER = re.compile(r"\.keras_gated_[0-9a-f]{32}\.part")
ONE_DAY = 24 * 60 * 60  # seconds; an export that is still running is younger


@contextmanager
def replace_when_complete(path: str | os.PathLike) -> Iterator[Path]:
    """Yields the path of a draft, which replaces `path` if the block raises nothing.

    Other files that the block puts beside the draft move beside `path`. If `path` is a link, the
    file that it points to is replaced. An older file's permissions stay.

    Args:
        path: of the final file.
    """
    target = Path(path).resolve()
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    _remove_old_drafts(target.parent)
    # In the same folder, for a file can be renamed in one step only within a file system.
    folder = target.parent / f".keras_gated_{uuid.uuid4().hex}.part"
    folder.mkdir(0o700)
    draft = folder / target.name
    try:
        # os.open applies the umask to 0o666. Python can read the umask only by setting it, which
        # every other thread would see.
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        os.close(os.open(draft, flags, 0o666 if mode is None else 0o600))
        yield draft
        _move(draft, target, mode)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(draft: Path, target: Path, mode: int | None) -> None:
    """Moves a complete draft, and the files beside it, to their final names."""
    files = sorted(draft.parent.iterdir(), key=lambda file: file == draft)  # the draft last
    mode = stat.S_IMODE(draft.stat().st_mode) if mode is None else mode
    for file in files:
        file.chmod(mode)  # onnx lets nobody else read the file of the weights
    older = draft.with_name(f"{target.name}.older")
    if len(files) > 1 and target.exists():
        os.replace(target, older)  # nobody must see it with the new weights, which may fit it
    try:
        for file in files:
            os.replace(file, target.with_name(file.name))
    except OSError:
        if older.exists():
            os.replace(older, target)
        raise


def _remove_old_drafts(folder: Path) -> None:
    """Removes what exports to a folder left behind that were killed more than a day ago."""
    for entry in folder.iterdir():
        if DRAFT_FOLDER.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
            if time.time() - entry.stat().st_mtime > ONE_DAY:
                shutil.rmtree(entry, ignore_errors=True)


def check_path(path: str | os.PathLike) -> None:
    """Raises a ValueError unless a file can be written to `path`."""
    try:
        target = Path(path).resolve()
        exists = target.exists()
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise ValueError(
            "Argument `path` must be a str or os.PathLike, the name of a file: not bytes, not "
            "longer than the file system allows, and not a link to itself. "
            f"Received: path={describe_path(path)}. Give another name."
        ) from error
    if exists and not target.is_file():
        raise ValueError(
            "Argument `path` must be the path of a file. "
            f"Received: path={os.fspath(path)!r}, which is a folder or a device. Give the name of "
            "a file in a folder, e.g. 'models/model.onnx'."
        )
    if not target.parent.is_dir():
        raise ValueError(
            "Argument `path` must be in a folder that exists. "
            f"Received: path={os.fspath(path)!r}. Create {str(target.parent)!r} first."
        )


def is_file(path: Any) -> bool:
    """Whether `path`, which may be anything, is the path of a file."""
    return isinstance(path, str | os.PathLike) and os.path.isfile(path)


def describe_path(path: Any) -> str:
    """Returns what was given as a path, which may be anything, for an error message."""
    return repr(os.fspath(path) if isinstance(path, os.PathLike) else path)[:200]
