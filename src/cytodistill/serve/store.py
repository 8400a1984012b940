"""Where the service keeps what it was given: a database, and a folder of pictures whose names are random."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any

from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from cytodistill.errors import CytodistillError
from cytodistill.files import make_folder
from cytodistill.serve.identity import Identity
from cytodistill.serve.incoming import Incoming
from cytodistill.serve.tables import FORMAT, Base, CellRow, FieldRow, Meta

DATABASE = "serve.db"
MARK = "folder.id"
LIST = ".cells"
SQLITE = (
    "journal_mode=WAL",
    # A review that was answered survives a power cut too.
    "synchronous=FULL",
    "foreign_keys=ON",
    # What is deleted is overwritten.
    "secure_delete=ON",
)


# As many as threads may ask at once.
POOL = {"pool_size": 8, "max_overflow": 40}


def new_id() -> str:
    """A name that tells nothing and is not to be guessed."""
    return secrets.token_hex(12)


class Store:
    """Database and pictures of one run's service, held by one process.

    Args:
        folder: for pictures, and for the database where there is no URL.
        identity: the run; cells of two runs do not mix.
        url: of a PostgreSQL database, SQLAlchemy's way; SQLite in the folder by default.

    Raises:
        CytodistillError: another process holds the folder, it is of another run, or the database is not to be had.
    """

    def __init__(self, folder: Path, identity: Identity, url: str | None = None) -> None:
        self.folder, self.identity = folder, identity
        self.cells, self.fields = make_folder(folder / "cells"), make_folder(folder / "fields")
        self.incoming = Incoming(folder / "incoming")
        # Pictures of patients' cells are nobody's but the owner's.
        folder.chmod(0o700)
        self._lock = _held(folder)
        self._writing = Lock()
        try:
            self.engine = _engine(folder, url)
            Base.metadata.create_all(self.engine)
        except (SQLAlchemyError, ImportError) as error:
            self._lock.close()
            raise CytodistillError(
                f"{_where(folder, url)}: the database cannot be opened ({type(error).__name__}); check that it is "
                "there, that it is one of this service, and for PostgreSQL that psycopg is installed"
            ) from None
        try:
            self._check()
        except CytodistillError:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is committed, and on the disk, when the block has ended well. One at a time: SQLite would make
        the second wait, or fail it where it had read before."""
        with self._writing, Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Let go of database and folder."""
        self.engine.dispose()
        self._lock.close()

    def cell_file(self, id: str) -> Path:
        return self.cells / id[:2] / f"{id}.png"

    def field_file(self, id: str) -> Path:
        return self.fields / f"{id}.png"

    def list_file(self, id: str) -> Path:
        """The list of a field's cells as it was sent; it goes with the field's picture."""
        return self.fields / f"{id}{LIST}"

    def erase(self, files: list[Path]) -> None:
        """Make what was deleted from the tables be gone: from the files, and from the database's own pages."""
        for file in files:
            file.unlink(missing_ok=True)
        with self._writing, self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if self.engine.dialect.name == "sqlite":
                connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
            else:
                # Without FULL the rows' bytes stay in their pages until others are written over them.
                connection.execute(text("VACUUM FULL uploads, problems, fields, cells, reviews"))

    def sweep(self) -> int:
        """Delete pictures that no row knows, and what was on its way in, of a process that was killed; their number."""
        with self.read() as session:
            known = set(session.scalars(select(CellRow.id))) | set(session.scalars(select(FieldRow.id)))
        left = [file for file in self.incoming.folder.iterdir() if file.is_file()]
        left += [file for folder in (self.cells, self.fields) for file in _stored(folder) if file.stem not in known]
        for file in left:
            file.unlink(missing_ok=True)
        return len(left)

    def _check(self) -> None:
        """That database, folder and run belong together; who comes first marks them."""
        file = self.folder / MARK
        if not file.is_file():
            file.write_text(new_id(), encoding="ascii")
        wanted = {"format": FORMAT, "run": self.identity.fingerprint, "folder": file.read_text(encoding="ascii")}
        with self.write() as session:
            found = {row.key: row.value for row in session.scalars(select(Meta))}
            session.add_all(Meta(key=key, value=value) for key, value in wanted.items() if key not in found)
        meant = {
            "format": "written by another version of cytodistill; give another --data folder",
            "run": "of another run, whose cells and classes do not mix with this one's; give another --data folder",
            "folder": "the database is of another --data folder; give that one, or another database",
        }
        for key, said in meant.items():
            if found.get(key, wanted[key]) != wanted[key]:
                raise CytodistillError(f"{self.folder}: {said}")


def write_picture(file: Path, content: bytes) -> None:
    """Write a picture. Its row follows; without one, after a crash, `Store.sweep` deletes it."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)


def _held(folder: Path) -> IO[str]:
    lock = open(folder / ".lock", "w")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise CytodistillError(
            f"{folder}: another service is using it; stop that one, or give another --data folder"
        ) from None
    return lock


def _engine(folder: Path, url: str | None) -> Engine:
    if url is not None:
        try:
            engine = create_engine(url, hide_parameters=True, pool_pre_ping=True, **POOL)
        except (ArgumentError, NoSuchModuleError):
            raise CytodistillError(
                "--database: not a URL such as postgresql+psycopg://user:password@host/name; correct it"
            ) from None
        if engine.dialect.name != "postgresql":
            raise CytodistillError(
                f"--database: {engine.dialect.name} is not supported; leave it out for SQLite, or give PostgreSQL"
            )
        return engine
    engine = create_engine(f"sqlite:///{folder / DATABASE}", hide_parameters=True, connect_args={"timeout": 30}, **POOL)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        for pragma in SQLITE:
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _where(folder: Path, url: str | None) -> str:
    return str(folder / DATABASE) if url is None else "--database"  # a URL may hold a password


def _stored(folder: Path) -> Iterator[Path]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _stored(Path(entry.path))
        elif entry.name.endswith((".png", LIST)):
            yield Path(entry.path)
