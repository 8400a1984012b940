"""Uploads as they are worked on: queued, decoded, answered and stored, some cells at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import posixpath
from dataclasses import dataclass, field

from sqlalchemy import update
from starlette.concurrency import run_in_threadpool

from cytodistill.data.images import Box
from cytodistill.serve.bodies import Form, Part, shown
from cytodistill.serve.decode import Cell, Failed, Field, Listing
from cytodistill.serve.errors import Busy, Refused
from cytodistill.serve.gallery import INTERRUPTED, box_columns
from cytodistill.serve.intake import Found, Intake
from cytodistill.serve.store import Store, new_id, write_picture
from cytodistill.serve.tables import CellRow, FieldRow, ProblemRow, UploadRow, now
from cytodistill.serve.telemetry import where

RUNNERS = 2
"""Uploads that are worked on at once, so that a small one does not wait for a large one."""
AT_ONCE = 32
"""Cells that are stored together."""

log = logging.getLogger(__name__)


@dataclass
class Job:
    """An upload that was accepted."""

    upload: str
    form: Form
    boxes: list[Box] | None
    group: str | None
    field_id: str | None = None
    number: int = 0
    cells: int = 0
    first_problem: str | None = None
    stopped: bool = False
    waiting: list[asyncio.Task[Found]] = field(default_factory=list)


class Jobs:
    """Works on uploads, as many as `RUNNERS` at once.

    Args:
        store: for what comes of them.
        most: uploads that may wait.
    """

    def __init__(self, store: Store, most: int) -> None:
        self._store = store
        self._queue: asyncio.Queue[Job] = asyncio.Queue(most)
        self._known: dict[str, Job] = {}
        self._runners: list[asyncio.Task[None]] = []

    def start(self, intake: Intake) -> None:
        """Begin to work; uploads may wait already."""
        self._runners = [asyncio.create_task(self._run(intake)) for _ in range(RUNNERS)]

    @property
    def under_way(self) -> set[str]:
        """Ids of the uploads that wait or are worked on."""
        return set(self._known)

    async def finish(self) -> None:
        """Work until nothing that was accepted is left."""
        if self._runners:
            await self._queue.join()

    async def close(self) -> None:
        """Stop at once."""
        for runner in self._runners:
            runner.cancel()
        for runner in self._runners:
            with contextlib.suppress(asyncio.CancelledError):
                await runner
        for job in self._known.values():
            job.form.discard()

    def check_room(self) -> None:
        """Raise Busy where no more uploads are taken."""
        if self._queue.full():
            raise Busy("uploads: too many wait; try again later", 10)

    async def submit(self, form: Form, boxes: list[Box] | None, *, keep: bool, group: str | None) -> str:
        """Accept an upload; its id. It is in the database when this returns.

        Raises:
            Busy: too many wait.
        """
        self.check_room()
        job = Job(new_id(), form, boxes, group)
        row = UploadRow(id=job.upload, added=now(), state="waiting", keep=keep, group=group)
        self._known[job.upload] = job
        self._queue.put_nowait(job)
        await run_in_threadpool(self._add, row)
        return job.upload

    async def stop(self, upload: str) -> None:
        """Stop working on an upload, if it is worked on; what it has so far stays."""
        if (job := self._known.get(upload)) is not None:
            job.stopped = True
            while upload in self._known:
                await asyncio.sleep(0.05)

    def _add(self, *rows: UploadRow | FieldRow) -> None:
        with self._store.write() as session:
            session.add_all(rows)

    async def _run(self, intake: Intake) -> None:
        while True:
            job = await self._queue.get()
            try:
                await self._work(job, intake)
            finally:
                job.form.discard()
                del self._known[job.upload]
                self._queue.task_done()

    async def _work(self, job: Job, intake: Intake) -> None:
        try:
            single = sum(part.content.kind != "ZIP" for part in job.form.parts)
            job.cells = len(job.boxes) if job.boxes is not None else single
            await self._say(job, state="working", total=job.cells)
            for part in job.form.parts:
                await self._part(job, part, intake)
            await self._flush(job)
            state, detail = "done", None
            if job.stopped:
                state, detail = "stopped", "stopped by request"
            elif not job.number:
                state, detail = "failed", job.first_problem
        except asyncio.CancelledError:
            await self._say(job, state="stopped", detail=INTERRUPTED)
            raise
        except Exception as error:
            # Not what it says: that may hold an image's name.
            log.error("an upload failed: %s\n%s", type(error).__name__, where(error))
            state, detail = "failed", "an error of the service; its log has more"
        finally:
            for task in job.waiting:
                task.cancel()
        await self._say(job, state=state, detail=detail, total=job.cells)

    async def _part(self, job: Job, part: Part, intake: Intake) -> None:
        results = intake.decoded(part, job.boxes, keep=True)
        try:
            async with contextlib.aclosing(results):
                async for result in results:
                    if job.stopped:
                        return
                    if isinstance(result, Listing):
                        job.cells += result.count
                    elif isinstance(result, Field):
                        await self._field(job, part, result)
                    else:
                        await self._cell(job, part, result, intake)
        except Refused as error:
            await self._store_problem(job, part.name, str(error.detail))

    async def _cell(self, job: Job, part: Part, result: Cell | Failed, intake: Intake) -> None:
        job.waiting.append(asyncio.create_task(intake.named(part, job.boxes, result, in_turn=True)))
        if len(job.waiting) >= 2 * AT_ONCE:
            await self._flush(job, AT_ONCE)

    async def _flush(self, job: Job, count: int | None = None) -> None:
        """Store the answers of the first ``count`` cells that wait for one, or of all."""
        taken = job.waiting[: count or len(job.waiting)]
        found = await asyncio.gather(*taken)
        del job.waiting[: len(taken)]
        if found:
            await run_in_threadpool(self._store_cells, job, found)

    async def _field(self, job: Job, part: Part, picture: Field) -> None:
        row = FieldRow(
            id=new_id(), upload_id=job.upload, name=part.name, width=picture.width, height=picture.height, image=True
        )
        job.field_id = row.id
        await run_in_threadpool(write_picture, self._store.field_file(row.id), picture.picture)
        await run_in_threadpool(write_picture, self._store.list_file(row.id), job.form.fields["cells"].encode())
        await run_in_threadpool(self._add, row)

    async def _store_problem(self, job: Job, name: str, detail: str) -> None:
        await run_in_threadpool(self._store_cells, job, [Found(name, None, None, None, Failed(422, detail))])

    def _store_cells(self, job: Job, found: list[Found]) -> None:
        rows: list[CellRow | ProblemRow] = []
        for one in found:
            if one.failed is not None:
                job.first_problem = job.first_problem or one.failed.detail
                rows.append(ProblemRow(upload_id=job.upload, name=shown(one.name), detail=one.failed.detail))
            else:
                rows.append(self._row(job, one))
        done = sum(isinstance(row, CellRow) for row in rows)
        with self._store.write() as session:
            session.add_all(rows)
            session.execute(
                update(UploadRow)
                .where(UploadRow.id == job.upload)
                .values(done=UploadRow.done + done, failed=UploadRow.failed + len(rows) - done, total=job.cells)
            )

    def _row(self, job: Job, one: Found) -> CellRow:
        assert one.cell is not None
        assert one.prediction is not None
        id = new_id()
        write_picture(self._store.cell_file(id), one.cell.picture)
        job.number += 1
        answer = one.prediction
        copied = ("predicted", "confidence", "doubt", "abnormal", "disagreement", "stops_at")
        wide, high = (round(one.box[2]), round(one.box[3])) if one.box is not None else one.cell.image
        return CellRow(
            id=id,
            upload_id=job.upload,
            field_id=job.field_id,
            number=job.number if job.boxes is None else one.cell.place + 1,
            name=shown(one.name),
            group=job.group or job.field_id or _folder(job, one),
            width=wide,
            height=high,
            added=now(),
            answer=answer.model_dump_json(),
            **box_columns(one.box),
            **{name: getattr(answer, name) for name in copied},
        )

    async def _say(self, job: Job, **values: object) -> None:
        def write() -> None:
            with self._store.write() as session:
                session.execute(update(UploadRow).where(UploadRow.id == job.upload).values(**values))

        await run_in_threadpool(write)


def _folder(job: Job, one: Found) -> str | None:
    """The folder of a zip that a cell lies in, which is likely its slide or patient."""
    assert one.cell is not None
    folder = posixpath.dirname(one.cell.name or "")
    return f"{job.upload}/{folder}" if folder else None
