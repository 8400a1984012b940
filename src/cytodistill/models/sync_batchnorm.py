"""Batch normalisation over several ranks: by the statistics of the global batch, on CPUs too, where torch's own
SyncBatchNorm does not run, or by each rank's own with their moving averages brought together."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn import functional as F


def _sum_over_ranks(values: Tensor) -> Tensor:
    """Element-wise sum of each rank's (n,) values, in the same order everywhere.

    Gathered and added up here: for some hundred numbers gloo's own sum takes 1.7 ms and gathering 0.7
    (``benchmarks/ranks.py``), and a student has sixty normalisations.
    """
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gathered = values.new_empty(dist.get_world_size() * len(values))
    gather(gathered, values)
    return gathered.view(-1, len(values)).sum(0)


class _GlobalNormalise(torch.autograd.Function):
    """(x − mean) · w / √(variance + ε) + b with the moments of all ranks' cells, one exchange forward and one backward.

    Each rank's count, mean and second moment are added up in float64, where E[x²] − E[x]² loses nothing that counts.
    Backward, with x̂ the normalised map, N cells and places of all ranks, and sums over all of them:
    ∂x = w / √(variance + ε) · (g − Σg / N − x̂ Σ(g x̂) / N). The gradients of w and b are this rank's; the wrapper of the
    step averages them as it does all others.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        places = x.numel() // x.shape[1]
        exact = torch.float64 if x.dtype == torch.float64 else torch.float32
        rows = x.detach().permute(0, 2, 3, 1).reshape(-1, x.shape[1]).to(exact)
        own_mean = rows.mean(0)
        squared, own_mean = (rows - own_mean).square_().sum(0).double(), own_mean.double()
        own = torch.cat([places * own_mean, squared + places * own_mean.square(), own_mean.new_tensor([places])])
        total = _sum_over_ranks(own)
        count = total[-1]
        mean64, second = (total[:-1] / count).chunk(2)
        mean, variance = mean64.to(exact), (second - mean64.square()).clamp(min=0).to(exact)
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        # With given moments, torch's own kernel makes g w / √(variance + ε), Σ g x̂ and Σ g in one pass.
        scaled, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = _sum_over_ranks(torch.cat([of_weight, of_bias]).double())
        of_product, of_sum = (sums / count).to(mean.dtype).chunk(2)
        inverse = (variance + ctx.eps).rsqrt()
        factor = inverse if weight is None else inverse * weight
        slope, shift = factor * inverse * of_product, factor * of_sum
        # In the moments' precision and rounded once: the terms cancel, the more the larger the mean is.
        centred = x.to(mean.dtype) - mean[:, None, None]
        gradient = scaled.to(mean.dtype).sub_(shift[:, None, None]).addcmul_(centred, slope[:, None, None], value=-1)
        return gradient.to(x.dtype), None if weight is None else of_weight, None if weight is None else of_bias, None


def _global_batch_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Training-mode batch norm with moments over every rank's (B_r, C, H, W), whatever their B_r."""
    normalised, mean, variance, count = _GlobalNormalise.apply(x, norm.weight, norm.bias, norm.eps)
    if norm.track_running_stats:
        with torch.no_grad():
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
            momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            unbiased = variance * (count / (count - 1).clamp(min=1)).to(variance.dtype)
            norm.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
            norm.running_var.lerp_(unbiased, momentum)  # type: ignore[union-attr]
    return normalised


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose training statistics are those of the global batch."""

    def forward(self, x: Tensor) -> Tensor:
        return _global_batch_norm(self, x) if self.training else super().forward(x)


class GlobalBatchNormAct2d(BatchNormAct2d):
    """timm's batch norm with activation, likewise."""

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(_global_batch_norm(self, x))) if self.training else super().forward(x)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """``module`` with every batch norm over the global batch, names in its state dict unchanged."""
    if device.type == "cuda":
        # Once: what is converted already would lose its activation by a second conversion.
        done = any(isinstance(child, nn.SyncBatchNorm) for child in module.modules())
        return module if done else convert_sync_batchnorm(module)
    swap = {nn.BatchNorm2d: GlobalBatchNorm2d, BatchNormAct2d: GlobalBatchNormAct2d}
    for child in module.modules():
        if type(child) in swap:
            child.__class__ = swap[type(child)]
    return module


def average_statistics(module: nn.Module) -> None:
    """Give the moving averages of every batch norm the mean over ranks, by one exchange for all of them.

    What is kept is what training normalised by on average: of small shares a variance below the global batch's, for the
    places of one image are alike, and what lies between images shows in many of them only.
    """
    kept = [
        moment
        for norm in module.modules()
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.track_running_stats
        for moment in (norm.running_mean, norm.running_var)
        if moment is not None
    ]
    if not kept:
        return
    whole = torch.cat([moment.flatten() for moment in kept])
    dist.all_reduce(whole)
    means = (whole / dist.get_world_size()).split([moment.numel() for moment in kept])
    for moment, mean in zip(kept, means, strict=True):
        moment.copy_(mean.view_as(moment))
