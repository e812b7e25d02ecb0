"""Files that appear only once they are complete: where they land, and with which permissions."""

import os
import stat

import pytest

from keras_gated.onnx.atomic_file import check_path, replace_when_complete


def put(path, text="new") -> None:
    with replace_when_complete(path) as draft:
        draft.write_text(text)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_failure_leaves_the_older_file(tmp_path):
    path = tmp_path / "model.onnx"
    put(path, "old")
    with pytest.raises(RuntimeError), replace_when_complete(path) as draft:
        draft.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    put(path)
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_the_umask_holds_and_is_never_changed(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", None)  # another thread would see the change
        put(tmp_path / "model.onnx")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert mode(tmp_path / "model.onnx") == 0o640


@pytest.mark.parametrize("permissions", [0o600, 0o444, 0o755])
def test_an_older_files_permissions_stay(tmp_path, permissions):
    path = tmp_path / "model.onnx"
    put(path, "old")
    path.chmod(permissions)
    put(path)
    assert path.read_text() == "new" and mode(path) == permissions


def test_a_draft_is_no_more_open_than_the_older_file(tmp_path):
    path = tmp_path / "model.onnx"
    put(path, "old")
    path.chmod(0o600)
    with replace_when_complete(path) as draft:
        assert mode(draft) == 0o600


@pytest.mark.parametrize("exists", [True, False])
def test_of_a_link_the_file_that_it_points_to_is_replaced(tmp_path, exists):
    (tmp_path / "store").mkdir()
    path, target = tmp_path / "latest.onnx", tmp_path / "store" / "model.onnx"
    path.symlink_to(target)
    if exists:
        put(target, "old")
    check_path(path)
    put(path)
    assert path.is_symlink() and path.readlink() == target
    assert target.read_text() == "new" and list(target.parent.iterdir()) == [target]


def test_paths_that_cannot_be(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch()
    link.symlink_to(tmp_path / "lost" / "model.onnx")
    for path, text in (
        (tmp_path, "which is a folder"),
        (os.devnull, "device"),
        (
            tmp_path / "no" / "model.onnx",
            "path=.*Create '.*no'",
        ),
        (link, "Create '.*lost'"),
        (file / "model.onnx", f"path='{file / 'model.onnx'}'"),
        (b"model.onnx", "path=b'model.onnx'"),
        (None, "path=None"),
        ("x" * 300, "path='xxx"),
        ("x" * 5000, "path='xxx"),
        ("a\0b", "path='a"),
    ):
        with pytest.raises(ValueError, match=f"`path`.*{text}"):
            check_path(path)


def test_what_a_killed_export_left_is_removed_once_it_is_old(tmp_path):
    path = tmp_path / "model.onnx"
    with replace_when_complete(path) as draft:
        assert not list(tmp_path.glob("*.onnx")) and not list(tmp_path.glob(".*.onnx"))
        left = draft.parent.name
    (tmp_path / "store").mkdir()
    others = [f".keras_gated_{'0' * 31}.part", ".keras_gated_notes.part", "keras_gated.part"]
    for name in (left, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_text("half")
    (tmp_path / f".keras_gated_{'a' * 32}.part").write_text("a file")
    (tmp_path / f".keras_gated_{'b' * 32}.part").symlink_to(tmp_path / "store")
    put(path)
    assert (tmp_path / left).exists()  # it may belong to an export that still runs
    for entry in tmp_path.iterdir():
        os.utime(entry, (0, 0), follow_symlinks=False)
    before = {entry.name for entry in tmp_path.iterdir()}
    put(path)
    assert {entry.name for entry in tmp_path.iterdir()} == before - {left}


def test_files_beside_the_draft_move_with_it(tmp_path):
    path = tmp_path / "model.onnx"
    for text in ("old", "new"):
        with replace_when_complete(path) as draft:
            draft.write_text(text)
            draft.with_name("model.onnx.data").write_text(f"{text} weights")
    assert path.read_text() == "new"
    assert (tmp_path / "model.onnx.data").read_text() == "new weights"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_older_file_stays_if_the_one_beside_it_cannot_move(tmp_path):
    path = tmp_path / "model.onnx"
    put(path, "old")
    (tmp_path / "model.onnx.data").mkdir()
    with pytest.raises(OSError), replace_when_complete(path) as draft:
        draft.write_text("new")
        draft.with_name("model.onnx.data").write_text("weights")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
