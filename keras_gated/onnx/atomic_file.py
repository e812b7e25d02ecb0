"""Files that appear only once they are complete."""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_when_complete(path: str | os.PathLike) -> Iterator[Path]:
    """A draft in the same folder that takes the place of `path` if all goes well.

    Of a link the file that it points to is replaced. An older file's permissions stay.
    """
    target = Path(path).resolve()
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    draft = target.with_name(f".{uuid.uuid4().hex}.onnx")
    # The system takes the umask off 0o666; to read it would mean to set it, for every thread.
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
    """Raises a ValueError unless a file can stand at `path`."""
    try:
        target = Path(path).resolve()
    except (RuntimeError, OSError) as error:
        raise ValueError(
            "Argument `path` must not be a link to itself. "
            f"Received: path={os.fspath(path)!r}. Remove the link."
        ) from error
    if target.exists() and not target.is_file():
        raise ValueError(
            "Argument `path` must be of a file. "
            f"Received: path={os.fspath(path)!r}, which is a folder or a device. Give the name of "
            "a file in a folder, e.g. 'models/model.onnx'."
        )
    if not target.parent.is_dir():
        raise ValueError(
            "Argument `path` must be in a folder that exists. "
            f"Received: path={os.fspath(path)!r}. Create {str(target.parent)!r} first."
        )
