"""What the validation cells say of a network at an epoch's end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cytodistill.errors import CytodistillError
from cytodistill.metrics import classification_metrics
from cytodistill.models.outputs import ensemble
from cytodistill.train.distributed import gather_rows
from cytodistill.train.job import Job
from cytodistill.train.sampling import in_chunks

BATCH = 256


def validate(network: nn.Module, job: Job, show: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Figures of each exit and the ensemble on the validation split; exact over ranks, empty without one.

    Args:
        network: is put into eval mode.
        show: (b,) rows of cells → their images as the network wants them.

    Raises:
        CytodistillError: the network answers with what is not a number.
    """
    if not len(job.val_rows):
        return {}
    network.eval()
    positions = job.ranks.share(torch.arange(len(job.val_rows)))
    rows = torch.from_numpy(job.val_rows).to(job.ranks.device)
    with torch.inference_mode():
        found = [network(show(rows[chunk])).probabilities() for chunk in in_chunks(positions, BATCH)]
    shape = (0, job.network.exits, len(job.classes))
    mine = torch.cat(found) if found else torch.zeros(shape, device=job.ranks.device)
    probabilities = gather_rows(mine, positions, len(rows), job.ranks)
    if not torch.isfinite(probabilities).all():
        raise CytodistillError(
            f"train.lr={job.recipe.train.lr}: the network's answers to the validation cells became NaN; lower it"
        )
    labels = job.labels[job.val_rows]

    def figures(of: Tensor) -> dict[str, float]:
        metrics = classification_metrics(of.cpu().numpy(), labels, job.classes)
        return {name: metrics[name] for name in ("accuracy", "balanced_accuracy", "f1")}

    exits = [figures(probabilities[:, exit]) for exit in range(probabilities.shape[1])]
    return {"exits": exits, "ensemble": figures(ensemble(probabilities))}
