"""The optimiser, and its learning rate as a function of training progress alone (a resumed run needs no scheduler)."""

from __future__ import annotations

import math

import torch

from cytodistill.recipe import Train


def rate_factor(train: Train, epoch: float) -> float:
    """What ``train.lr`` is multiplied by after ``epoch`` epochs (a fraction within an epoch).

    ``multistep``: gamma to the number of milestones reached. ``cosine``: (1 + cos π·e/E)/2. ``onecycle``: a cosine rise
    from 1/25 over the first 30 %, then a cosine fall to zero; both begin anew ``cycles`` times. A warm-up multiplies by
    a linear rise from zero.
    """
    cycle = train.epochs / train.cycles
    share = (epoch % cycle) / cycle if epoch < train.epochs else 1.0
    factor = 1.0
    if train.schedule == "multistep":
        factor = train.gamma ** sum(epoch >= milestone for milestone in train.milestones)
    elif train.schedule == "cosine":
        factor = (1 + math.cos(math.pi * share)) / 2
    elif train.schedule == "onecycle":
        peak, start = 0.3, 1 / 25
        if share < peak:
            factor = start + (1 - start) * (1 - math.cos(math.pi * share / peak)) / 2
        else:
            factor = (1 + math.cos(math.pi * (share - peak) / (1 - peak))) / 2
    if epoch < train.warmup_epochs:
        factor *= epoch / train.warmup_epochs
    return factor


def optimiser_for(parameters: list, train: Train) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that are trained."""
    # By itself torch takes one parameter after another on a CPU. Fused, AdamW reads each number once (a step of `fast`
    # takes 6 % less); a gradient must then lie in memory as its parameter does, and autograd sees to that.
    # SGD is no faster fused, and takes all parameters at once.
    if train.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters,
        lr=train.lr,
        momentum=train.momentum,
        nesterov=train.nesterov,
        weight_decay=train.weight_decay,
        foreach=True,
    )
