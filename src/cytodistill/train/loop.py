"""The training loop: epochs of steps, validation, the best epoch kept, checkpoints.

Everything random is drawn from the seed, the epoch and the position in it, so a run that is killed and resumed, and a
run over several ranks, visit the same views of the same cells in the same batches.
"""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cytodistill.data.augment import Preprocess, Views, draw_views
from cytodistill.data.cache import DeviceCells
from cytodistill.distill import Batch, Method, Pretraining
from cytodistill.errors import CytodistillError
from cytodistill.files import replacing
from cytodistill.metrics import classification_metrics
from cytodistill.models.matrix_conv import use_matrix_products
from cytodistill.models.multi_exit import Network
from cytodistill.models.outputs import ExitOutputs, ensemble
from cytodistill.models.sync_batchnorm import synchronise_batch_norm
from cytodistill.recipe import Recipe
from cytodistill.train.checkpoint import load_checkpoint, save_checkpoint
from cytodistill.train.distributed import Ranks, gather_rows
from cytodistill.train.log import RunLog, Watcher, epoch_line
from cytodistill.train.optimisation import optimiser_for, rate_factor
from cytodistill.train.sampling import batch_slices, epoch_order, in_chunks
from cytodistill.train.step import Best, StudentStep, Sums, autocast_type
from cytodistill.train.teacher import FrozenTeacher

EVALUATION_BATCH = 256


@dataclass
class Job:
    """What is trained, on what, where to."""

    recipe: Recipe
    classes: tuple[str, ...]
    network: Network
    method: Method
    teacher: Callable[[Tensor], ExitOutputs] | None
    cells: DeviceCells
    labels: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray
    folder: Path
    fingerprint: str
    ranks: Ranks
    watcher: Watcher
    stage: str = "student"
    """Its name for people."""
    pretraining: Pretraining | None = None
    """The method's stage before the training itself, where this job is that stage."""


class Trainer:
    """One training: ``run`` goes from the checkpoint, or the start, to the end and leaves the weights in the folder."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.settings = job.recipe.train
        self.device = job.ranks.device
        self.labels = torch.from_numpy(job.labels).to(self.device)
        self.train_rows = torch.from_numpy(job.train_rows).to(self.device)
        self.val_rows = torch.from_numpy(job.val_rows).to(self.device)
        self.preprocess = Preprocess(job.recipe.data.mean, job.recipe.data.std)
        self.views = Views(job.recipe.augment, self.preprocess, turned="rotations" in job.method.needs)
        self.slices = batch_slices(len(self.train_rows), self.settings.batch_size, job.ranks.world)
        self.precision = autocast_type(self.settings.precision, self.device)

        network = job.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.device.type == "cpu":
            use_matrix_products(network)
        if job.ranks.world > 1:
            network = synchronise_batch_norm(network, self.device)
            synchronise_batch_norm(job.method, self.device)
        self.network = network
        self.student = StudentStep(network, job.method.to(self.device), job.pretraining)
        self.wrapped = self._distribute(self.student)
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
        self.best = Best()
        self.epoch, self.step, self.sums, self.seconds = 0, 0, Sums(), 0.0
        self._saved_at = self._counted_at = time.monotonic()

    # ---------------------------------------------------------------- the run

    def run(self) -> dict[str, Any]:
        """Train to the end. Returns what run.json keeps of it: the best epoch, its figure, the seconds.

        Raises:
            CytodistillError: the loss is no longer a number, or the checkpoint does not fit.
        """
        self._restore()
        self._counted_at = time.monotonic()
        while self.epoch < self.settings.epochs:
            started = time.monotonic()
            self._train_epoch()
            loss, accuracy = self.sums.means(self.job.ranks)
            if not math.isfinite(loss["loss"]):
                raise CytodistillError(
                    f"train.lr={self.settings.lr}: the loss became {loss['loss']} in epoch {self.epoch + 1}; "
                    "fit into another folder with a lower train.lr, train.clip_norm=1 or train.warmup_epochs=5"
                )
            validation = self._validate()
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
        self.job.ranks.barrier()
        selected = self.settings.select if len(self.val_rows) else "last"
        return {
            "selected_by": selected,
            "best_epoch": self.best.epoch,
            "best_value": None if selected == "last" else self.best.value,
            "seconds": round(self.seconds, 1),
        }

    def _train_epoch(self) -> None:
        recipe, ranks = self.job.recipe, self.job.ranks
        # Drawn on the CPU, where a seed gives the same on any machine, and moved once an epoch: a copy a step would
        # make the device wait.
        labels = self.labels[self.train_rows].cpu()
        order = epoch_order(labels, recipe.seed, self.epoch, self.settings.imbalance).to(self.device)
        draws = draw_views(len(order), recipe.seed, self.epoch).to(self.device)
        if self.step == 0:
            torch.manual_seed((recipe.seed * 1_000_003 + self.epoch * 31 + ranks.rank) % 2**63)  # dropout, negatives
            self._begin_cycle()
        self.student.train()
        shown = 0.0
        for step in range(self.step, len(self.slices)):
            part = self.slices[step]
            positions = slice(part.start + ranks.rank, part.stop, ranks.world)
            parts, correct = self._train_step(order[positions], draws[positions], part.stop - part.start, step)
            self.sums.add(parts, correct, len(order[positions]))
            self.step = step + 1
            # Reading a figure waits for the device, so it is done a few times a second at most.
            if ranks.first and (time.monotonic() - shown > 0.5 or self.step == len(self.slices)):
                shown = time.monotonic()
                self.job.watcher.step(self.job.stage, *self._progress(), self._note())
            if self.step < len(self.slices):
                self._checkpoint(self.settings.checkpoint_minutes)

    def _train_step(
        self, order: Tensor, draws: Tensor, global_batch: int, step: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """One step on this rank's share of a global batch; ``order`` are positions into the training cells."""
        rows = self.train_rows[order]
        images = self.views(self.job.cells[rows], draws)
        batch = Batch(images, self.labels[rows], rows)
        rate = self.settings.lr * rate_factor(self.settings, self.epoch + step / len(self.slices))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with self._autocast():
            teacher = self.snapshot or self.job.teacher
            if teacher is not None:
                batch.teacher = teacher(images)
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

    def time_steps(self, steps: int) -> float:
        """Seconds of one training step: the mean of a few, after one that is not counted. It trains what it measures,
        so it is for networks that are thrown away."""
        self.student.train()
        draws = draw_views(len(self.train_rows), self.job.recipe.seed, 0).to(self.device)
        order = torch.arange(len(self.train_rows), device=self.device)
        started = 0.0
        for step in range(steps + 1):
            part = self.slices[step % len(self.slices)]
            self._train_step(order[part], draws[part], part.stop - part.start, step)
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

    # ---------------------------------------------------------------- validation

    def _validate(self) -> dict[str, Any]:
        """Figures of each exit and the ensemble on the validation split; exact over ranks, empty without one."""
        if not len(self.val_rows):
            return {}
        positions = self.job.ranks.share(torch.arange(len(self.val_rows)))
        network = self._kept()
        network.eval()
        found = []
        with torch.inference_mode(), self._autocast():
            for chunk in in_chunks(positions, EVALUATION_BATCH):
                images = self.preprocess(self.job.cells[self.val_rows[chunk]])
                images = images.contiguous(memory_format=torch.channels_last)
                found.append(network(images).probabilities())
        shape = (0, self.network.exits, len(self.job.classes))
        mine = torch.cat(found) if found else torch.zeros(shape, device=self.device)
        probabilities = gather_rows(mine, positions, len(self.val_rows), self.job.ranks)
        if not torch.isfinite(probabilities).all():
            raise CytodistillError(
                f"train.lr={self.settings.lr}: the network's answers became NaN in epoch {self.epoch + 1}; lower it"
            )
        labels = self.job.labels[self.job.val_rows]

        def figures(of: Tensor) -> dict[str, float]:
            metrics = classification_metrics(of.cpu().numpy(), labels, self.job.classes)
            return {name: metrics[name] for name in ("accuracy", "balanced_accuracy", "f1")}

        exits = [figures(probabilities[:, exit]) for exit in range(probabilities.shape[1])]
        return {"exits": exits, "ensemble": figures(ensemble(probabilities))}

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

    def _distribute(self, student: StudentStep) -> nn.Module:
        if self.job.ranks.world == 1:
            return student
        on_gpu = [self.device.index] if self.device.type == "cuda" else None
        # Batch statistics are global already. torch renamed the option that would copy them before each step.
        options = inspect.signature(DistributedDataParallel.__init__).parameters
        copies: dict[str, Any] = (
            {"forward_sync_buffers": False} if "forward_sync_buffers" in options else {"broadcast_buffers": False}
        )
        # A stage before the training may leave the classifier, or all of the student, as it is.
        partly = self.job.pretraining is not None
        return DistributedDataParallel(student, device_ids=on_gpu, find_unused_parameters=partly, **copies)

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
