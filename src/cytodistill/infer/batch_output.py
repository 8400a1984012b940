"""Output: a long file in the making, which a killed process leaves so that the next one can go on with it.

OUT.part has the text so far, and OUT.journal says how much of it counts; what was written after its last line is
written again. When all is done OUT.json says how the file was made, OUT.part becomes OUT, and the journal goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write, make_folder
from cytodistill.infer.batch_answer import Block
from cytodistill.infer.batch_journal import Journal, Progress

SECONDS = 5.0
"""Between two lines of the journal: what a killed process loses at most."""
PIECE = 1 << 20


class Output:
    """Writes blocks to a file; made by `open_output`.

    Args:
        out: the file.
        asked: all that its bytes depend on.
        every: seconds between two lines of the journal; `SECONDS` where None.
    """

    def __init__(self, out: Path, asked: Mapping[str, Any], every: float | None = None) -> None:
        self.out = out
        self.every = SECONDS if every is None else every
        # As JSON gives it back, so that it compares equal with what a file says.
        self.asked = json.loads(json.dumps(asked))
        self.part, self.about = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.json")
        self.journal = Journal(out.with_name(f"{out.name}.journal"))
        self.done = Progress()
        self.finished = False
        """Whether the file was whole already, so that there is nothing to write."""
        self._files = ExitStack()
        self._hash = hashlib.blake2b(digest_size=32)
        self._saved_at = time.monotonic()

    def put(self, block: Block) -> None:
        """Add a block's lines; from time to time say in the journal that they are there."""
        with _writing(self.out):
            size = self.done.size + self._write(block.text)
            self.done = self.done.after(block.cells, block.problems, size, self._hash.hexdigest())
            if time.monotonic() - self._saved_at >= self.every:
                self._save()

    def begin(self, head: str) -> None:
        """Write the file from its start."""
        with _writing(self.out):
            self.journal.begin(self.asked)
            self._stream: BinaryIO = self._files.enter_context(self.part.open("wb"))
            self.done = Progress(size=self._write(head), digest=self._hash.hexdigest())

    def go_on(self, done: Progress) -> None:
        """Write on where the journal says that the file is.

        Raises:
            CytodistillError: the file has not the bytes that the journal says.
        """
        with _writing(self.out):
            self._stream = self._files.enter_context(self.part.open("r+b"))
            left = done.size
            while left and (piece := self._stream.read(min(PIECE, left))):
                self._hash.update(piece)
                left -= len(piece)
            if left or self._hash.hexdigest() != done.digest:
                raise CytodistillError(
                    f"{self.part}: was changed since it was written; delete {self.journal.path} to begin again"
                )
            self._stream.truncate(done.size)
            self._stream.seek(done.size)
        self.done = done

    def finish(self, about: Mapping[str, Any]) -> None:
        """Give the file its name, and write what OUT.json says of it."""
        with _writing(self.out):
            self._save()
        self._files.close()
        said = {"file": {"name": self.out.name, **asdict(self.done)}, "asked": self.asked, **about}
        atomic_write(self.about, (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode())
        with _writing(self.out):
            os.replace(self.part, self.out)
            self.journal.path.unlink()

    def whole(self) -> bool:
        """Whether the file is there, finished, and of what is asked for, by what OUT.json says."""
        try:
            said = json.loads(self.about.read_text(encoding="utf-8"))
            del said["file"]["name"]
            done = Progress.from_dict(said["file"])
            self.finished = said["asked"] == self.asked and self.out.stat().st_size == done.size
        except (OSError, ValueError, KeyError, TypeError):
            return False
        self.done = done
        return self.finished

    def leave(self) -> None:
        """Close, with nothing left behind where the journal counts no cell."""
        self._files.close()
        if self.journal.progress is None:
            self.part.unlink(missing_ok=True)
            self.journal.path.unlink(missing_ok=True)

    def _write(self, text: str) -> int:
        """Add text; how many bytes it is."""
        content = text.encode()
        self._stream.write(content)
        self._hash.update(content)
        return len(content)

    def _save(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.journal.save(self.done)
        self._saved_at = time.monotonic()


@contextmanager
def open_output(
    out: Path,
    asked: Mapping[str, Any],
    head: str,
    *,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
    every: float | None = None,
) -> Iterator[Output]:
    """Output to ``out``, from its start or from where a killed one stopped (``Output.done``). When the block ends well
    the file takes its name; after an exception what the journal counts is kept.

    Args:
        out: file to write.
        asked: all that the file's bytes depend on, as JSON; to go on, it must be what the file was begun with.
        head: what the file begins with.
        resume: go on with a file that was begun, or from the start where none was.
        about: what else OUT.json is to say.
        every: seconds between two lines of the journal; `SECONDS` where None.

    Raises:
        CytodistillError: ``out`` cannot be written, or is being written by another process; without ``resume``, an
            unfinished one is there; with it, the one that is there was begun with something else, or was changed.
    """
    if out.is_dir():
        raise CytodistillError(f"{out}: is a folder, and a file is to be written; choose another name")
    make_folder(out.parent)
    output = Output(out, asked, every)
    done = output.journal.progress
    if done and not resume:
        raise CytodistillError(
            f"{out}: {done.cells} cells of it are written already; --resume goes on with them, or delete "
            f"{output.journal.path} to begin again"
        )
    if done:
        _check_asked(output)
    if resume and _is_finished(output):
        yield output
        return
    with ExitStack() as stack:
        with _writing(out):
            stack.enter_context(output.journal.opened())
        stack.callback(output.leave)
        output.go_on(done) if done else output.begin(head)
        yield output
        output.finish(about or {})


def _check_asked(output: Output) -> None:
    before = output.journal.asked or {}
    changed = [name for name in {**before, **output.asked} if before.get(name) != output.asked.get(name)]
    if changed:
        raise CytodistillError(
            f"{output.out}: --resume: the {changed[0]} is not what it was begun with; give the same command, or delete "
            f"{output.journal.path} to begin again"
        )


def _is_finished(output: Output) -> bool:
    """Whether there is nothing left to write. A process may have been killed between the last steps of `finish`."""
    if output.part.exists() or not (output.out.exists() or output.journal.progress):
        return False
    if not output.whole():
        what = f"{output.out}: is there, and not of this command; leave --resume out to write it anew"
        gone = f"{output.part}: gone; delete {output.journal.path} to begin again"
        raise CytodistillError(gone if output.journal.progress else what)
    output.journal.path.unlink(missing_ok=True)
    return True


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """A full disk as one line."""
    try:
        yield
    except OSError as error:
        raise CytodistillError(
            f"{out}: cannot be written ({error.strerror}); make room, or choose another place"
        ) from None
