"""The service on a real PostgreSQL: the stories that SQLite has to tell too, and what only a server can do."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from cytodistill.errors import CytodistillError
from cytodistill.serve.identity import identify
from cytodistill.serve.store import Store

from .conftest import a_cell, encoded, send
from .test_gallery import (  # noqa: F401
    page,
    test_a_field_keeps_its_picture_and_where_its_cells_are,
    test_a_stored_cell_says_what_predict_said,
    test_an_upload_is_worked_through,
    test_bad_images_of_a_zip_are_told_and_counted,
    test_cells_are_sorted_and_paged_without_gaps,
    test_filters_do_what_they_say,
    test_one_cell_can_be_deleted_alone,
    upload,
)
from .test_hostile import PATHS, check_refusal, test_names_are_names  # noqa: F401
from .test_reviews import (  # noqa: F401
    cells_of,
    review,
    test_accept_correct_and_undo_are_events_of_their_own,
    test_agreement_is_cohens_and_grows,
    test_nothing_to_export_is_said,
    test_one_takes_back_only_what_is_ones_own,
    test_the_csv_has_every_event_and_no_formulas,
    test_what_was_reviewed_trains_the_next_run,
)

psycopg = pytest.importorskip("psycopg", reason="needs psycopg, of the extra serve-postgresql")


def programs() -> Path | None:
    """Folder of PostgreSQL's own programs; Debian keeps them out of PATH."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else None


PROGRAMS = programs()
# The cluster is started once: one worker has these tests.
pytestmark = [
    pytest.mark.skipif(PROGRAMS is None, reason="needs PostgreSQL's server"),
    pytest.mark.xdist_group("postgresql"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """Folder of the socket of a server that goes when the tests have ended. It refuses to run as root, and what is
    below pytest's folders only their owner reaches."""
    folder = Path(tempfile.mkdtemp(prefix="cytodistill-postgresql-"))
    user = {}
    if os.geteuid() == 0:
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody", "nogroup")
    run = lambda *words: subprocess.run(words, check=True, capture_output=True, cwd=folder, **user)  # noqa: E731
    try:
        run(PROGRAMS / "initdb", "-D", "data", "-U", "cells", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        run(PROGRAMS / "pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")
        try:
            yield folder
        finally:
            run(PROGRAMS / "pg_ctl", "-D", "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def new_database(cluster) -> Callable[[], str]:
    """``new_database()`` makes an empty one, and gives its URL."""
    made = []

    def make() -> str:
        made.append(f"cells{len(made)}")
        with psycopg.connect(f"host={cluster} user=cells dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {made[-1]}")
        return f"postgresql+psycopg://cells@/{made[-1]}?host={cluster}"

    return make


@pytest.fixture(scope="module")
def client(serving, new_database, tmp_path_factory):
    """In place of the one on SQLite, for this module's tests and those that it has of others."""
    with serving(tmp_path_factory.mktemp("data"), database=new_database()) as client:
        yield client


@pytest.fixture
def own(serving, new_database, tmp_path):
    with serving(tmp_path, database=new_database()) as client:
        yield client


@pytest.fixture
def opened(judged_run) -> Callable:
    """``with opened(folder, url) as store``."""

    @contextmanager
    def open_store(folder: Path, url: str) -> Iterator[Store]:
        store = Store(folder, identify(judged_run), url)
        try:
            yield store
        finally:
            store.close()

    return open_store


def test_nothing_is_in_the_folder_but_pictures(client, upload):  # noqa: F811
    store = client.app.state.service.store
    assert store.engine.dialect.name == "postgresql"
    assert not list(store.folder.glob("*.db*"))
    assert len(list(store.cells.rglob("*.png"))) >= upload["done"]


def test_reviewers_at_once_lose_nothing(client):
    cells = cells_of(client, send(client, encoded(a_cell(20)), encoded(a_cell(21))))
    labels = ("left", "middle", "right")

    def give(turn: int) -> int:
        given = review(client, cells[turn % 2], "correct", labels[turn % 3], f"reviewer {turn % 8}")
        assert given.status_code == 201, given.text
        return given.json()["review"]["id"]

    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(give, range(80)))
    assert len(set(accepted)) == 80
    stored = [client.get(f"/api/v1/cells/{cell['id']}").json() for cell in cells]
    assert {event["id"] for cell in stored for event in cell["reviews"]} == set(accepted)
    for cell in stored:
        last = max(cell["reviews"], key=lambda event: event["id"])
        assert (cell["label"], cell["reviewer"]) == (last["label"], last["reviewer"])


def test_what_was_reviewed_or_kept_is_there_after_a_restart(serving, new_database, tmp_path):
    url = new_database()
    with serving(tmp_path, database=url) as first:
        reviewed = cells_of(first, send(first, encoded(a_cell(1)), encoded(a_cell(2))))
        kept = send(first, encoded(a_cell(3)), keep="true")
        assert review(first, reviewed[0], "correct", "left").status_code == 201
        events = first.get(f"/api/v1/cells/{reviewed[0]['id']}/reviews").json()
    with serving(tmp_path, ready=False, database=url) as second:
        left = {cell["id"]: cell["label"] for cell in page(second)["cells"]}
        assert left == {reviewed[0]["id"]: "left"} | {cell["id"]: None for cell in cells_of(second, kept)}
        assert second.get(f"/api/v1/cells/{reviewed[0]['id']}/reviews").json() == events
        undone = review(second, reviewed[0], "undo").json()
        assert undone["review"]["undoes"] == events[0]["id"]


def test_deletion_takes_the_rows(client):
    gone = send(client, encoded(a_cell(30)), ("b.png", b"BM"))
    (cell,) = cells_of(client, gone)
    review(client, cell, "accept")
    assert client.delete(f"/api/v1/uploads/{gone['id']}").status_code == 409
    assert client.delete(f"/api/v1/uploads/{gone['id']}?reviews=true").json() == {"cells": 1, "reviews": 1}
    store = client.app.state.service.store
    with store.engine.connect() as connection:
        for table, column in (("cells", "id"), ("reviews", "cell_id"), ("uploads", "id"), ("problems", "upload_id")):
            rows = connection.exec_driver_sql(f"SELECT {column} FROM {table}").scalars().all()
            assert not {cell["id"], gone["id"]} & set(rows), table


@pytest.mark.parametrize("path", PATHS)
def test_addresses(client, path):
    check_refusal(client.get(path))


@pytest.mark.parametrize("name", ["upload", "field", "predicted", "label", "reviewer"])
@pytest.mark.parametrize("value", ["%00", "a%00b", "%ff", "'%20OR%201=1--", "%25", "%F0%9F%94%AC"])
def test_what_is_asked_for_is_a_value_and_nothing_else(client, name, value):
    if name == "reviewer":
        assert client.get(f"/api/v1/agreement?{name}={value}").status_code in (200, 422)
    answer = client.get(f"/api/v1/cells?{name}={value}")
    assert answer.status_code in (200, 422), answer.text
    if answer.status_code == 200:
        assert answer.json()["total"] == 0


def test_a_database_is_of_one_folder(opened, new_database, tmp_path):
    url = new_database()
    with opened(tmp_path / "one", url):
        pass
    with pytest.raises(CytodistillError, match="of another --data folder"), opened(tmp_path / "other", url):
        pass
    with opened(tmp_path / "one", url):
        pass


def test_one_that_is_not_to_be_had_is_told_without_its_password(opened, cluster, tmp_path):
    for url in (
        f"postgresql+psycopg://cells:hush@/absent?host={cluster}",
        f"postgresql+psycopg://cells:hush@/cells0?host={cluster}/nowhere",
    ):
        with pytest.raises(CytodistillError, match="--database: the database cannot") as told, opened(tmp_path, url):
            pass
        assert "hush" not in str(told.value)
        assert "\n" not in str(told.value)
