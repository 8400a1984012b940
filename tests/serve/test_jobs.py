"""Uploads that wait are bounded, and those too many are refused before they are read."""

import asyncio

import pytest

from cytodistill.serve.bodies import Form
from cytodistill.serve.errors import Busy
from cytodistill.serve.identity import identify
from cytodistill.serve.jobs import Jobs
from cytodistill.serve.store import Store
from cytodistill.serve.tables import UploadRow


def test_room_is_for_so_many_and_who_came_first_is_not_lost(judged_run, tmp_path):
    store = Store(tmp_path, identify(judged_run))

    async def fill():
        jobs = Jobs(store, 2)
        ids = []
        for _ in range(2):
            jobs.check_room()
            ids.append(await jobs.submit(Form(), None, keep=True, group=None))
        with pytest.raises(Busy) as told:
            jobs.check_room()
        with pytest.raises(Busy):
            await jobs.submit(Form(), None, keep=True, group=None)
        assert jobs.under_way == set(ids)
        await jobs.close()
        return ids, told.value

    ids, told = asyncio.run(fill())
    assert told.status_code == 503
    assert int(told.headers["Retry-After"]) >= 1
    with store.read() as session:
        assert {row.id: row.state for row in session.query(UploadRow)} == dict.fromkeys(ids, "waiting")
    store.close()
