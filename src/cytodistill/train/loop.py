"""The training loop: epochs of steps, validation, the best epoch kept, checkpoints.

Everything random is drawn from the seed, the epoch and the position in it, so a run that is killed and resumed, and a
run over several ranks, visit the same views of the same cells in the same batches.
"""

from __future__ import annotations

import copy
import math
import shutil
import time
from contextlib import nullcontext
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cytodistill.data.augment import Preprocess, Views
from cytodistill.data.fixed_views import draw_fixed_views
from cytodistill.distill import Batch
from cytodistill.errors import CytodistillError
from cytodistill.files import replacing
from cytodistill.models.matrix_conv import use_matrix_products
from cytodistill.models.outputs import ExitOutputs
from cytodistill.models.sync_batchnorm import average_statistics, synchronise_batch_norm
from cytodistill.train.checkpoint import load_checkpoint, save_checkpoint
from cytodistill.train.job import Job
from cytodistill.train.log import RunLog, epoch_line
from cytodistill.train.memory import kept_memory
from cytodistill.train.optimisation import optimiser_for, rate_factor
from cytodistill.train.sampling import batch_slices, least_batch
from cytodistill.train.step import Best, StudentStep, Sums, autocast_type, compiled, over_ranks
from cytodistill.train.stored_answers import FOLDER, StoredAnswers, parts_learnt_from, store_answers
from cytodistill.train.teacher import FrozenTeacher
from cytodistill.train.validate import validate
from cytodistill.train.visits import Visits, check_sides, refuse_unserved, side_of, visits_of


class Trainer:
    """One training: ``run`` goes from the checkpoint, or the start, to the end and leaves the weights in the folder."""

    def __init__(self, job: Job) -> None:
        refuse_unserved(type(job.method), job.recipe)
        self.job = job
        self.settings = job.recipe.train
        self.device = job.ranks.device
        self.labels = torch.from_numpy(job.labels).to(self.device)
        self.train_rows = torch.from_numpy(job.train_rows).to(self.device)
        self.preprocess = Preprocess(job.recipe.data.mean, job.recipe.data.std)
        self.views = Views(job.recipe.augment, self.preprocess, turned="rotations" in job.method.needs)
        least = least_batch(self.settings, job.ranks)
        self.slices = batch_slices(len(self.train_rows), self.settings.batch_size, least)
        self.precision = autocast_type(self.settings.precision, self.device)

        network = job.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.device.type == "cpu":
            use_matrix_products(network)
        if self.settings.compile:
            compiled(network, self.device)
        if job.ranks.world > 1 and self.settings.batch_norm == "global":
            network = synchronise_batch_norm(network, self.device)
            synchronise_batch_norm(job.method, self.device)
        check_sides(network, job.recipe)
        self.network = network
        self.student = StudentStep(network, job.method.to(self.device), job.pretraining)
        self.wrapped = over_ranks(self.student, job.ranks)
        trained = [parameter for parameter in self.student.parameters() if parameter.requires_grad]
        self.optimiser = optimiser_for(trained, self.settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.average: AveragedModel | None = None
        if self.settings.ema:
            self.average = AveragedModel(
                network, multi_avg_fn=get_ema_multi_avg_fn(self.settings.ema), use_buffers=True
            )
        self.log = RunLog(job.folder, self.settings.tensorboard) if job.ranks.first else None
        self.snapshot: FrozenTeacher | None = None
        self.replays = job.teacher is not None and job.recipe.teacher.views > 0
        self.answers: StoredAnswers | None = None
        self.best = Best()
        self.side = job.recipe.data.image_size
        self.epoch, self.step, self.sums, self.seconds = 0, 0, Sums(), 0.0
        self._saved_at = self._counted_at = time.monotonic()

    # ---------------------------------------------------------------- the run

    @kept_memory()
    def run(self) -> dict[str, Any]:
        """Train to the end. Returns what run.json keeps of it: the best epoch, its figure, the seconds.

        Raises:
            CytodistillError: the loss is no longer a number, or the checkpoint does not fit.
        """
        self._restore()
        self._counted_at = time.monotonic()
        if self.replays and self.epoch < self.settings.epochs:
            self.answers = self._store_answers()
        while self.epoch < self.settings.epochs:
            started = time.monotonic()
            self._train_epoch()
            loss, accuracy = self.sums.means(self.job.ranks)
            if not math.isfinite(loss["loss"]):
                raise CytodistillError(
                    f"train.lr={self.settings.lr}: the loss became {loss['loss']} in epoch {self.epoch + 1}; "
                    "fit into another folder with a lower train.lr, train.clip_norm=1 or train.warmup_epochs=5"
                )
            with self._autocast():
                validation = validate(self._kept(), self.job, self._show)
            self._keep_best(validation)
            self._count_seconds()
            event: dict[str, Any] = {
                "event": "epoch",
                "epoch": self.epoch,
                "lr": self.optimiser.param_groups[0]["lr"],
                "loss": loss,
                "train_accuracy": accuracy,
                "seconds": round(time.monotonic() - started, 3),
            }
            if validation:
                event["val"] = validation
            if self.log:
                self.log.write(event)
            self.job.watcher.say(epoch_line(self.job.stage, self.settings.epochs, event))
            self.epoch, self.step, self.sums = self.epoch + 1, 0, Sums()
            self._checkpoint(self.settings.checkpoint_minutes / 10)
        if self.job.pretraining is not None:
            self._checkpoint(0.0)  # the stage's end is what the training begins with
            self.student.end()
        elif self.job.ranks.first:
            self._save_weights("last.safetensors", self._weights())
            self._save_weights("model.safetensors", self.best.weights)
        if self.job.ranks.first:
            shutil.rmtree(self.job.folder / FOLDER, ignore_errors=True)  # there is nothing left to replay them to
        self.job.ranks.barrier()
        selected = self.settings.select if len(self.job.val_rows) else "last"
        return {
            "selected_by": selected,
            "best_epoch": self.best.epoch,
            "best_value": None if selected == "last" else self.best.value,
            "seconds": round(self.seconds, 1),
        }

    def _train_epoch(self) -> None:
        recipe, ranks = self.job.recipe, self.job.ranks
        visits, self.side = self._visits(), side_of(recipe, self.epoch)
        if self.step == 0:
            torch.manual_seed((recipe.seed * 1_000_003 + self.epoch * 31 + ranks.rank) % 2**63)  # dropout, negatives
            self._begin_cycle()
        self.student.train()
        shares = [visits[part.start + ranks.rank : part.stop : ranks.world] for part in self.slices]
        shown = 0.0
        for step in range(self.step, len(self.slices)):
            part, mine = self.slices[step], shares[step]
            if step + 1 < len(shares):
                self.job.cells.expect(self.train_rows[shares[step + 1].cells])
            parts, correct = self._train_step(mine, part.stop - part.start, step)
            self.sums.add(parts, correct, len(mine))
            self.step = step + 1
            # Reading a figure waits for the device, so it is done a few times a second at most.
            if ranks.first and (time.monotonic() - shown > 0.5 or self.step == len(self.slices)):
                shown = time.monotonic()
                self.job.watcher.step(self.job.stage, *self._progress(), self._note())
            if self.step < len(self.slices):
                self._checkpoint(self.settings.checkpoint_minutes)
        if ranks.world > 1 and self.settings.batch_norm == "rank":
            average_statistics(self.student)
            if self.average is not None:
                average_statistics(self.average)

    def _visits(self) -> Visits:
        # Drawn on the CPU, where a seed gives the same on any machine, and moved once an epoch: a copy a step would
        # make the device wait.
        rows = self.train_rows.cpu()
        labels = self.labels.cpu()[rows]
        return visits_of(self.job.recipe, self.epoch, rows, labels, fixed=self.replays).to(self.device)

    def _train_step(self, visits: Visits, global_batch: int, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """One step on this rank's share of a global batch."""
        rows = self.train_rows[visits.cells]
        cells = self.job.cells[rows]
        images = self.views(cells, visits.draws, self.side)
        batch = Batch(images, self.labels[rows], rows, self._taught(visits, cells, images))
        rate = self.settings.lr * rate_factor(self.settings, self.epoch + step / len(self.slices))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with self._autocast():
            parts, correct = self.wrapped(batch)
        # DDP averages over ranks; shares that differ in size must count by their cells.
        weight = len(rows) * self.job.ranks.world / global_batch
        self.scaler.scale(parts["loss"] * weight).backward()
        if self.settings.clip_norm:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.student.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.network)
        return parts, correct

    @kept_memory()
    def time_steps(self, steps: int) -> float:
        """Seconds of one training step: the mean of a few, after one that is not counted. It trains what it measures,
        so it is for networks that are thrown away."""
        if self.replays:
            self.answers = self._store_answers()
        self.student.train()
        visits = self._visits()
        started = 0.0
        for step in range(steps + 1):
            part = self.slices[step % len(self.slices)]
            self._train_step(visits[part], part.stop - part.start, step)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            if step == 0:
                started = time.monotonic()
        return (time.monotonic() - started) / steps

    def _begin_cycle(self) -> None:
        """Where a cycle of the rate begins anew: what the last one ended with becomes the teacher, for a method that
        learns from its own snapshots."""
        length = self.settings.epochs // self.settings.cycles
        if "snapshot" in self.job.method.needs and self.epoch and self.epoch % length == 0:
            self.snapshot = FrozenTeacher(copy.deepcopy(self.network), self.device)

    # ---------------------------------------------------------------- the teacher

    def _taught(self, visits: Visits, cells: Tensor, images: Tensor) -> ExitOutputs | None:
        """What teaches a batch: stored answers, the student's own snapshot, or the teacher. Also where the student is
        shown a smaller view, a teacher sees it at the full side."""
        if self.answers is not None:
            assert visits.views is not None
            return self.answers(visits.cells, visits.views)
        teacher = self.snapshot or self.job.teacher
        if teacher is None:
            return None
        if self.side != self.job.recipe.data.image_size:
            images = self.views(cells, visits.draws)
        with self._autocast():
            return teacher(images)

    def _store_answers(self) -> StoredAnswers:
        """The teacher's answers to all fixed views of the training cells, from an earlier start or computed now."""
        job, teacher = self.job, self.job.teacher
        assert teacher is not None
        learnt_from = parts_learnt_from(type(job.method))

        def answer(cells: Tensor, views: Tensor) -> dict[str, Tensor]:
            rows = self.train_rows[cells.to(self.device)]
            images = self.views(job.cells[rows], draw_fixed_views(rows, views, job.recipe.seed))
            with self._autocast():
                said = teacher(images)
            return {name: getattr(said, name)[-1] for name in learnt_from}

        # The job's fingerprint is of the recipe, with its seed, and of the cells.
        key = f"{job.fingerprint} {teacher.digest()} {self.precision}"
        count, views = len(self.train_rows), job.recipe.teacher.views
        return store_answers(job.folder / FOLDER, key, answer, count, views, job.ranks, job.watcher)

    # ---------------------------------------------------------------- validation

    def _show(self, rows: Tensor) -> Tensor:
        """Images of cells as they are."""
        return self.preprocess(self.job.cells[rows]).contiguous(memory_format=torch.channels_last)

    def _keep_best(self, validation: dict[str, Any]) -> None:
        """Keep the weights where this epoch is at least as good as the best; the last epoch's where nothing selects."""
        select = self.settings.select
        if validation and select != "last":
            if validation["ensemble"][select] >= self.best.value:
                self.best = Best(self.epoch, validation["ensemble"][select], self._weights())
        elif self.epoch + 1 == self.settings.epochs:
            self.best = Best(self.epoch, 0.0, self._weights())

    # ---------------------------------------------------------------- state

    def _kept(self) -> nn.Module:
        """The network that is validated and kept: the moving average where there is one."""
        return self.average.module if self.average is not None else self.network

    def _weights(self) -> dict[str, Tensor]:
        """A copy, on the CPU, of what would be kept now."""
        state = self._kept().state_dict()
        return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in state.items()}

    def _save_weights(self, name: str, weights: dict[str, Tensor]) -> None:
        with replacing(self.job.folder / name) as temporary:
            save_file(weights, temporary)

    def _count_seconds(self) -> None:
        """Add what has passed since the last count, so that time before a kill is not lost with it."""
        now = time.monotonic()
        self.seconds += now - self._counted_at
        self._counted_at = now

    def _checkpoint(self, minutes: float) -> None:
        """Write the state if the last one is older than ``minutes``; with several ranks at an epoch's end only, where
        every rank's sums are empty."""
        if not self.job.ranks.first or time.monotonic() - self._saved_at < 60 * minutes:
            return
        if self.job.ranks.world > 1 and self.step:
            return
        self._count_seconds()
        state: dict[str, Any] = {
            "fingerprint": self.job.fingerprint,
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums.state(),
            "seconds": self.seconds,
            "best": {"epoch": self.best.epoch, "value": self.best.value, "weights": self.best.weights},
            "network": self.network.state_dict(),
            "method": self.student.method.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        if self.snapshot is not None:
            state["snapshot"] = self.snapshot.network.state_dict()
        save_checkpoint(self.job.folder / "checkpoint.pt", state)
        self._saved_at = time.monotonic()

    def _restore(self) -> None:
        file = self.job.folder / "checkpoint.pt"
        if file.is_file():
            state = load_checkpoint(file, self.job.fingerprint)
            self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
            sums = state["sums"]
            correct = sums["correct"]
            if self.job.ranks.first:  # what one process summed up counts once, however many go on with it
                self.sums = Sums(
                    {name: value.to(self.device) for name, value in sums["parts"].items()},
                    None if correct is None else correct.to(self.device),
                    sums["cells"],
                )
            self.best = Best(**state["best"])
            self.network.load_state_dict(state["network"])
            self.student.method.load_state_dict(state["method"])
            self.optimiser.load_state_dict(state["optimiser"])
            if state["scaler"] and self.scaler.is_enabled():
                self.scaler.load_state_dict(state["scaler"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            if "snapshot" in state:
                self.snapshot = FrozenTeacher(copy.deepcopy(self.network), self.device)
                self.snapshot.network.load_state_dict(state["snapshot"])
        if self.log:
            self.log.rewind(self.epoch)

    # ---------------------------------------------------------------- small parts

    def _autocast(self):
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    def _progress(self) -> tuple[int, int]:
        return self.epoch * len(self.slices) + self.step, self.settings.epochs * len(self.slices)

    def _note(self) -> str:
        assert self.sums.correct is not None
        loss = (self.sums.parts["loss"] / self.sums.cells).item()
        said = f"{self.epoch + 1}/{self.settings.epochs} loss {loss:.3f}"
        if not len(self.sums.correct):
            return said
        accuracy = " ".join(f"{100 * hits / self.sums.cells:.0f}" for hits in self.sums.correct.tolist())
        return f"{said} exits {accuracy} %"
