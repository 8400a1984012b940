"""Runs a fit as a process of its own, for tests that kill it or start several ranks of it.

python drive.py SOURCE OUT RECIPE.json [--kill STEP] [--gradients FILE]
"""

from __future__ import annotations

import json
import os
import signal
import sys

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cytodistill.recipe import Recipe
from cytodistill.train.fit import fit
from cytodistill.train.loop import Trainer


def kill_at(step: int) -> None:
    """SIGKILL this process, as the out-of-memory killer would, right after its ``step``-th training step."""
    taken = 0
    whole = Trainer._train_step

    def counted(self, *arguments):
        nonlocal taken
        result = whole(self, *arguments)
        taken += 1
        if taken == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Trainer._train_step = counted


def main() -> None:
    source, out, recipe = sys.argv[1:4]
    options = dict(zip(sys.argv[4::2], sys.argv[5::2], strict=True))
    torch.set_num_threads(1)
    if "--kill" in options:
        kill_at(int(options["--kill"]))
    gradients: list[list[torch.Tensor]] = []
    if "--gradients" in options:
        register_optimizer_step_pre_hook(
            lambda optimiser, *_: gradients.append([p.grad.clone() for p in optimiser.param_groups[0]["params"]])
        )
    with open(recipe, encoding="utf-8") as file:
        settings = Recipe.check(json.load(file))
    fit(source, out, recipe=settings, resume=True, device="cpu")
    if "--gradients" in options and os.environ.get("RANK", "0") == "0":
        torch.save(gradients, options["--gradients"])


if __name__ == "__main__":
    main()
