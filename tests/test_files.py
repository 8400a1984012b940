from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest import mock

import pytest

from cytodistill.errors import CytodistillError, reason
from cytodistill.files import atomic_write, make_folder, replacing


def test_the_file_appears_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    atomic_write(file, b"old")
    with replacing(file) as temporary:
        temporary.write_bytes(b"new")
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert list(file.parent.iterdir()) == [file]


def test_an_exception_leaves_the_older_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    atomic_write(file, b"old")
    with pytest.raises(ZeroDivisionError), replacing(file) as temporary:
        1 / temporary.write_bytes(b"")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_no_room_and_no_right_are_said_in_a_line(tmp_path: Path, number: int) -> None:
    refusal = OSError(number, os.strerror(number))
    with (
        mock.patch("os.replace", side_effect=refusal),
        pytest.raises(CytodistillError, match="file: cannot be written .*make room, or choose another place"),
    ):
        atomic_write(tmp_path / "file", b"")
    assert not list(tmp_path.iterdir())


def test_other_failures_of_the_block_are_not_taken_for_the_file_s(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        raise FileNotFoundError(errno.ENOENT, "another")


def test_a_file_in_the_way_of_a_folder_and_a_folder_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for below in ("file", "file/folder"):
        with pytest.raises(CytodistillError, match=f"{below}: cannot be made a folder .*choose another place"):
            make_folder(tmp_path / below)
    with pytest.raises(CytodistillError, match="is a folder, and a file is to be written; choose another name"):
        atomic_write(tmp_path, b"")


def test_a_reason_is_one_short_line() -> None:
    assert reason(ValueError("two\nlines")) == "two lines"
    assert reason(EOFError()) == "EOFError"
    assert reason(ValueError("long " * 40), 12) == "long long lo…"
