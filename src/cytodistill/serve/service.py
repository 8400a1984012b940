"""The service's parts and their lives: store, decoders, network, uploads; started, loaded, and finished in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from cytodistill.errors import CytodistillError
from cytodistill.serve.batching import Batcher
from cytodistill.serve.decode import Decoders
from cytodistill.serve.errors import Busy, Refused
from cytodistill.serve.explaining import Explainer
from cytodistill.serve.gallery import forget, older, stop_unfinished
from cytodistill.serve.identity import Identity
from cytodistill.serve.intake import Intake
from cytodistill.serve.jobs import Jobs
from cytodistill.serve.schemas import Health, Prediction
from cytodistill.serve.security import Doorkeeper
from cytodistill.serve.settings import Settings
from cytodistill.serve.store import Store
from cytodistill.serve.telemetry import Figures

if TYPE_CHECKING:
    from cytodistill.serve.model import Model

FORGETTING_SECONDS = 300
log = logging.getLogger("cytodistill.serve")


class Service:
    """One run at work.

    Stored cells and reviews are served as soon as it has started; the network, which takes seconds to load, follows,
    and whoever needs it before waits for it.

    Args:
        settings: checked.
        identity: of the run.
        store: opened.
    """

    def __init__(self, settings: Settings, identity: Identity, store: Store) -> None:
        self.settings, self.identity, self.store = settings, identity, store
        self.figures = Figures()
        self.doorkeeper = Doorkeeper(settings.tokens(), settings.secure)
        self.jobs = Jobs(store, settings.limits.jobs)
        self.error: CytodistillError | None = None
        """Why the network could not be loaded."""
        self._decoders = Decoders(settings.decoder_count(), settings.limits)
        self._batcher: Batcher[Prediction] | None = None
        self._model: Model | None = None
        self._intake: Intake | None = None
        self._explainer: Explainer | None = None
        self._loaded = asyncio.Event()
        self._under_way = 0
        self._stopping = False
        self._hurried = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start; at the end finish what was accepted, delete what is not to be kept, and stop.

        An upload that was under way then nobody has seen finished: it is there after the next start.
        """
        spared: set[str] = set()
        await run_in_threadpool(self._tidy)
        await self._decoders.start()
        self._tasks = [asyncio.create_task(self._load()), asyncio.create_task(self._forget_the_old())]
        try:
            yield
            self._stopping = True
            spared |= self.jobs.under_way
            await self._finish()
        finally:
            spared |= self.jobs.under_way
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.jobs.close()
            if self._batcher is not None:
                await self._batcher.close()
            await self._decoders.close()
            await run_in_threadpool(forget, self.store, spared=spared)
            self.store.close()

    def hurry(self) -> None:
        """Let the end not wait for uploads that are worked on."""
        self._hurried.set()

    @property
    def health(self) -> Health:
        """Whether predictions are to be had."""
        if self.error is not None:
            return Health(status="failed")
        if self._stopping:
            return Health(status="stopping")
        return Health(status="ok" if self._loaded.is_set() else "loading")

    async def model(self) -> Model:
        """The run, loaded.

        Raises:
            Refused: it could not be loaded.
        """
        await self._loaded.wait()
        if self._model is None:
            raise Refused(503, "the run could not be loaded; the service's own output says why")
        return self._model

    async def intake(self) -> Intake:
        """What answers images; raises as `model`."""
        await self.model()
        assert self._intake is not None
        return self._intake

    async def explainer(self) -> Explainer:
        """What draws maps; raises as `model`."""
        await self.model()
        assert self._explainer is not None
        return self._explainer

    async def drop_maps(self) -> None:
        """Forget maps, of cells that were deleted."""
        if self._explainer is not None:
            self._explainer.forget()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place among the requests that are worked on.

        Raises:
            Busy: all are taken; nothing of the request has been read.
        """
        if self._under_way >= self.settings.limits.requests or self._stopping:
            seconds = self._batcher.seconds_to_wait if self._batcher is not None else 5
            raise Busy("service: busy; try again later", seconds)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def observe(self) -> None:
        """Bring the gauges up to date."""
        self.figures.waiting.set(0 if self._batcher is None else len(self._batcher))
        self.figures.under_way.set(self._under_way)
        self.figures.killed.set(self._decoders.killed)

    def _tidy(self) -> None:
        """After another process, which may have been killed: its uploads are stopped, and what is left of those that
        are not to be kept stays no longer than it would have."""
        stop_unfinished(self.store)
        forget(self.store, older(self.settings.forget_hours))
        self.store.sweep()

    async def _finish(self) -> None:
        """Wait until what was accepted has been worked through, or nobody wants to wait."""
        either = [asyncio.create_task(self._work_off()), asyncio.create_task(self._hurried.wait())]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in either:
                task.cancel()

    async def _work_off(self) -> None:
        await self._loaded.wait()
        await self.jobs.finish()

    async def _load(self) -> None:
        settings = self.settings
        try:
            model = await run_in_threadpool(_model, settings, self.identity)
        except CytodistillError as error:
            self.error = error
            return
        except Exception as error:
            log.exception("the run could not be loaded")
            self.error = CytodistillError(f"{settings.run}: cannot be loaded ({type(error).__name__})")
            return
        finally:
            if self.error is not None:
                self._loaded.set()
        self._batcher = Batcher(
            model.predictions,
            settings.max_batch,
            settings.max_wait_ms / 1000,
            settings.limits.cells,
            self.figures.batch_done,
        )
        self._batcher.start()
        self._model = model
        self._intake = Intake(self._decoders, self._batcher, model)
        self._explainer = Explainer(self._decoders, self._batcher, model)
        self.jobs.start(self._intake)
        self._loaded.set()

    async def _forget_the_old(self) -> None:
        while True:
            await asyncio.sleep(FORGETTING_SECONDS)
            await run_in_threadpool(forget, self.store, older(self.settings.forget_hours))


def _model(settings: Settings, identity: Identity) -> Model:
    # Torch and all that hangs on it is loaded here, beside a service that answers already.
    from cytodistill.serve.model import load_model

    return load_model(
        settings.run,
        identity,
        device=settings.device,
        threads=settings.thread_count(),
        class_map=settings.class_map,
        sets=settings.sets,
        policy=settings.policy,
        confidence=settings.confidence,
    )
