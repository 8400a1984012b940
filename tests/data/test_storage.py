"""Folders and archives listed and read alike, and what is not trusted."""

from __future__ import annotations

import os
import threading
import zipfile
from pathlib import Path

import pytest

from cytodistill.data import storage
from cytodistill.data.storage import StorageError, content_stamp, has_file, list_root, read_bytes


def archive_of(file: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def test_folder_and_archive_list_alike_without_clutter(tmp_path: Path, zipped):
    root = tmp_path / "set"
    kept = ["b/Z.png", "b/a.png", "b/c/ü.png", "a.txt"]
    for path in (*kept, ".hidden", ".git/x.png", "__MACOSX/b/._a.png", "b/Thumbs.db", "b/.DS_Store", "b/._a.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    (root / "empty").mkdir()
    for listing in (list_root(root), list_root(zipped(root))):
        assert listing.files == ("a.txt", "b/Z.png", "b/a.png", "b/c/ü.png")
        assert listing.folders == ("b", "b/c", "empty")
    for source in (root, zipped(root)):
        assert [read_bytes(source, path) for path in kept] == [path.encode() for path in kept]
        assert has_file(source, "a.txt")
        assert not has_file(source, "b")


def test_linked_files_and_folders_are_followed_but_not_round_in_circles(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.png").touch()
    root = tmp_path / "set"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "twin").symlink_to(tmp_path / "elsewhere")
    (root / "y.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    assert list_root(root).files == ("linked/x.png", "twin/x.png", "y.png")


@pytest.mark.parametrize("member", ["/etc/passwd.png", "../up.png", "a/../../up.png", "a\\b.png", "C:/x.png"])
def test_archives_that_point_outside_are_refused(tmp_path: Path, member: str):
    source = archive_of(tmp_path / "set.zip", **{member: b"x"})
    with pytest.raises(StorageError, match="points out of the archive"):
        list_root(source)
    with pytest.raises(StorageError, match="points out of the archive"):
        read_bytes(source, member)


def test_broken_and_absent_files_are_named(tmp_path: Path):
    (tmp_path / "set.zip").write_bytes(b"PK no archive")
    with pytest.raises(StorageError, match=r"set\.zip: not a readable zip archive"):
        list_root(tmp_path / "set.zip")
    with pytest.raises(StorageError, match=r"nowhere: no such folder"):
        list_root(tmp_path / "nowhere")
    with pytest.raises(StorageError, match=r"x\.png: no such file"):
        read_bytes(tmp_path, "x.png")
    good = archive_of(tmp_path / "good.zip", **{"a.png": b"content of a cell"})
    with pytest.raises(StorageError, match=r"good\.zip:b\.png: no such member"):
        read_bytes(good, "b.png")
    good.write_bytes(good.read_bytes().replace(b"content", b"damaged", 1))
    os.utime(good, ns=(1, 1))
    with pytest.raises(StorageError, match=r"good\.zip:a\.png: cannot be unpacked"):
        read_bytes(good, "a.png")


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(storage, "MAX_BYTES", 10)
    (tmp_path / "big.png").write_bytes(b"x" * 11)
    source = archive_of(tmp_path / "set.zip", **{"big.png": b"x" * 11})
    for root in (tmp_path, source):
        with pytest.raises(StorageError, match=r"big\.png: larger than"):
            read_bytes(root, "big.png")


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode on Windows")
def test_names_that_are_not_utf8_are_refused(tmp_path: Path):
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(StorageError, match=r"is not UTF-8; rename"):
        list_root(tmp_path)


def test_threads_share_an_archive(tmp_path: Path):
    members = {f"{n}.bin": bytes([n]) * 20_000 for n in range(60)}
    source = archive_of(tmp_path / "set.zip", **members)
    wrong = []

    def read() -> None:
        wrong.extend(name for name, content in members.items() if read_bytes(source, name) != content)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_stamp_follows_the_content(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    (tmp_path / "c").write_bytes(b"two")
    stamps = [content_stamp(tmp_path, name) for name in "abc"]
    assert stamps[0] == stamps[1] != stamps[2]
    zipped = archive_of(tmp_path / "set.zip", a=b"one", b=b"one", c=b"two")
    stamps = [content_stamp(zipped, name) for name in "abc"]
    assert stamps[0] == stamps[1] != stamps[2]
