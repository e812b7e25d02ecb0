"""Writes a file so that nobody ever sees half of it.

The content goes to a draft in the same folder. The draft takes the final name only once it is
complete; if anything fails before that, an older file of that name stays as it was.
"""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replace_when_complete(path: str | os.PathLike) -> Iterator[Path]:
    """Yields the path of a draft, which replaces `path` if the block raises nothing.

    If `path` is a link, the file that it points to is replaced. An older file's permissions stay.

    Args:
        path: of the final file.
    """
    target = Path(path).resolve()
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    # In the same folder, for a file can be renamed in one step only within a file system.
    draft = target.with_name(f".{uuid.uuid4().hex}.onnx")
    # os.open applies the umask to 0o666. Python can read the umask only by setting it, which every
    # other thread would see.
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(draft, flags, 0o666 if mode is None else 0o600))
    try:
        yield draft
        if mode is not None:
            draft.chmod(mode)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


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
