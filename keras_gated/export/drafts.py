"""Files that appear only once they are complete."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def put_in_place(path: str | os.PathLike) -> Iterator[Path]:
    """A draft in the same folder that takes the place of `path` if all goes well."""
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".onnx", dir=target.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o666 & ~_umask())
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def check_folder(path: str | os.PathLike) -> None:
    """Raises a ValueError unless `path` is in a folder that exists."""
    if not (folder := Path(path).absolute().parent).is_dir():
        raise ValueError(
            "Argument `path` must be in a folder that exists. "
            f"Received: path={os.fspath(path)!r}. Create {str(folder)!r} first."
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
