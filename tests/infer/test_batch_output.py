"""Output: killed anywhere, resumed, and the file is the same to the last byte."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytodistill.errors import CytodistillError
from cytodistill.infer.batch_answer import Block
from cytodistill.infer.batch_output import Output, open_output

ASKED = {"run": {"fingerprint": "1"}, "policy": None}
HEAD = "path,é\n"


class KilledError(Exception):
    """Stands for a kill: what is on disk at that moment is looked at elsewhere."""


def blocks_of(texts):
    return [Block(text, cells=2, problems=(f"bad {number}",)) for number, text in enumerate(texts)]


def write(out, blocks, resume=False, asked=ASKED, every=0.0, stop=None):
    """Write the blocks that are missing, or ``stop`` of them before something goes wrong."""
    with open_output(out, asked, HEAD, resume=resume, every=every, about={"inputs": ["x"]}) as output:
        for block in [] if output.finished else blocks[output.done.cells // 2 :][:stop]:
            output.put(block)
        if stop is not None and not output.finished:
            raise KilledError
    return output


def killed(folder, blocks, every, stop, torn, half):
    """Write on until the process is killed; the folder as it then lies on the disk."""
    left = folder.with_name(f"{folder.name}x")
    with pytest.MonkeyPatch.context() as patch:
        # Before anything can be tidied up.
        patch.setattr(Output, "leave", lambda output: shutil.copytree(folder, left))
        try:
            write(folder / "out.csv", blocks, resume=True, every=every, stop=stop)
        except KilledError:
            # Of what was written after the journal's last line, any part may be on disk, and half of the next line.
            with open(left / "out.csv.part", "ab") as part, open(left / "out.csv.journal", "ab") as journal:
                part.write(torn)
                journal.write(b'{"cells": 2, "passed_over": 1}'[:half])
            return left
    return folder


@settings(deadline=None, max_examples=40)
@given(
    texts=st.lists(st.text(max_size=9), min_size=1, max_size=8),
    kills=st.lists(st.tuples(st.integers(0, 8), st.binary(max_size=5), st.integers(0, 30)), max_size=4),
    every=st.sampled_from([0.0, math.inf]),
)
def test_killed_anywhere_the_file_is_the_same(texts, kills, every):
    blocks = blocks_of(texts)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "out")
        folder.mkdir()
        for kill in kills:
            folder = killed(folder, blocks, every, *kill)
        write(folder / "out.csv", blocks, resume=True, every=every)
        content = {file.name: file.read_bytes() for file in folder.iterdir()}
    whole = (HEAD + "".join(texts)).encode()
    assert sorted(content) == ["out.csv", "out.csv.json"]
    assert content["out.csv"] == whole
    said = json.loads(content["out.csv.json"])
    assert said["asked"] == ASKED
    assert said["inputs"] == ["x"]
    assert said["file"] == {
        "name": "out.csv",
        "cells": 2 * len(texts),
        "passed_over": len(texts),
        "problems": [f"bad {number}" for number in range(len(texts))],
        "size": len(whole),
        "digest": hashlib.blake2b(whole, digest_size=32).hexdigest(),
    }


@pytest.fixture
def stopped(tmp_path):
    """A file of four blocks that was left after two."""
    blocks = blocks_of(["a\n", "b\n", "c\n", "d\n"])
    with pytest.raises(KilledError):
        write(tmp_path / "out.csv", blocks, stop=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.csv.journal", "out.csv.part"]
    return tmp_path / "out.csv", blocks


def test_what_was_begun_is_not_overwritten_unasked(stopped):
    out, blocks = stopped
    with pytest.raises(CytodistillError, match=r"4 cells of it are written already; --resume goes on"):
        write(out, blocks)
    out.with_name("out.csv.journal").unlink()
    write(out, blocks)
    assert out.read_text() == HEAD + "a\nb\nc\nd\n"


def test_another_command_is_refused_by_what_changed(stopped):
    out, blocks = stopped
    for asked, said in (
        (ASKED | {"policy": "risk"}, "the policy is not what it was begun with"),
        ({"run": {"fingerprint": "2"}, "policy": None}, "the run is not what"),
        ({"policy": None}, "the run is not what"),
    ):
        with pytest.raises(CytodistillError, match=said):
            write(out, blocks, resume=True, asked=asked)
    assert write(out, blocks, resume=True).done.cells == 8


def test_a_part_that_was_changed_is_refused(stopped):
    out, blocks = stopped
    part = out.with_name("out.csv.part")
    content = part.read_bytes()
    for changed in (content[:-1], content.replace(b"a", b"x")):
        part.write_bytes(changed)
        with pytest.raises(CytodistillError, match=r"out\.csv\.part: was changed since it was written"):
            write(out, blocks, resume=True)
    part.unlink()
    with pytest.raises(CytodistillError, match=r"out\.csv\.part: gone"):
        write(out, blocks, resume=True)
    out.with_name("out.csv.journal").write_text("nonsense\n")
    with pytest.raises(CytodistillError, match=r"out\.csv\.journal: damaged; delete it to begin again"):
        write(out, blocks, resume=True)


def test_resuming_what_is_finished_does_nothing(tmp_path):
    out, blocks = tmp_path / "out.csv", blocks_of(["a\n"])
    write(out, blocks)
    before = out.stat().st_mtime_ns
    again = write(out, blocks, resume=True)
    assert again.finished
    assert again.done.passed_over == 1
    assert out.stat().st_mtime_ns == before
    with pytest.raises(CytodistillError, match="is there, and not of this command; leave --resume out"):
        write(out, blocks, resume=True, asked={"run": 2})
    write(out, blocks_of(["b\n"]))
    assert out.read_text() == HEAD + "b\n"


def test_killed_between_naming_the_file_and_dropping_the_journal(tmp_path, monkeypatch):
    out, blocks = tmp_path / "out.csv", blocks_of(["a\n"])

    def unlink(path, missing_ok=False):
        if path.suffix == ".journal":
            raise KilledError
        path_unlink(path, missing_ok)

    path_unlink = Path.unlink
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(KilledError):
            write(out, blocks)
    assert out.is_file()
    assert write(out, blocks, resume=True).finished
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.csv", "out.csv.json"]


def test_a_failure_leaves_an_older_file_and_nothing_else(tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("older")
    with pytest.raises(KilledError):
        write(out, blocks_of(["a\n", "b\n"]), every=math.inf, stop=1)
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]
    assert out.read_text() == "older"


def test_two_processes_do_not_write_one_file(tmp_path):
    out = tmp_path / "out.csv"
    other = pytest.raises(CytodistillError, match=r"out\.csv\.journal: another process is writing")
    with open_output(out, ASKED, HEAD), other:
        write(out, blocks_of(["a\n"]))
    assert out.read_text() == HEAD


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CytodistillError, match=r"out\.csv: cannot be written \(No space left on device\); make room"):
        write(tmp_path / "out.csv", blocks_of(["a\n"]))
    assert not list(tmp_path.iterdir())
