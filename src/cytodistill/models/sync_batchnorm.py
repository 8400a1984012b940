"""Batch normalisation over the global batch of all ranks, on CPUs too, where torch's own SyncBatchNorm does not run."""

from __future__ import annotations

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn


class _AllReduceSum(torch.autograd.Function):
    """Sum over ranks whose gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def _global_batch_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Training-mode batch norm with moments over every rank's (B_r, C, H, W), whatever their B_r."""
    wide = x.float()
    sums = torch.cat([wide.sum((0, 2, 3)), wide.new_tensor([wide.numel() / wide.shape[1]])])
    sums = _AllReduceSum.apply(sums)
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = wide - mean[:, None, None]
    variance = _AllReduceSum.apply(centred.square().sum((0, 2, 3))) / count
    if norm.track_running_stats:
        with torch.no_grad():
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
            momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
            norm.running_var.lerp_(variance * count / (count - 1).clamp(min=1), momentum)  # type: ignore[union-attr]
    normalised = centred * (variance + norm.eps).rsqrt()[:, None, None]
    if norm.affine:
        normalised = normalised * norm.weight[:, None, None] + norm.bias[:, None, None]
    return normalised.to(x.dtype)


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
