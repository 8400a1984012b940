"""Global context block of GCNet (Cao et al. 2019), which the paper puts into every exit branch (section 3.5)."""

from __future__ import annotations

from torch import Tensor, nn


class GlobalContext(nn.Module):
    """One attention map over all positions pools the context; a bottleneck transforms it; it is fused back.

    Context: α = softmax over H·W of Conv1×1(C → 1); c = Σ α_j x_j, (B, C, 1, 1). Transform: t = W₂ ReLU(LN(W₁ c)) with
    W₁ C → rC and W₂ rC → C. Fusion ``add``: x + t; ``mul``: x · σ(t), the nearest reading of the paper's "dot product".
    W₂ starts at zero, so ``add`` starts as the identity and ``mul`` as ×0.5.

    Args:
        channels: C of the (B, C, H, W) input; the output has the same shape.
        ratio: r; the bottleneck has max(1, ⌊rC⌋) channels.
        fusion: "add" or "mul".
    """

    def __init__(self, channels: int, ratio: float = 0.25, fusion: str = "add") -> None:
        super().__init__()
        hidden = max(1, int(channels * ratio))
        self.fusion = fusion
        self.mask = nn.Conv2d(channels, 1, 1)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.LayerNorm([hidden, 1, 1])
        self.relu = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(hidden, channels, 1)
        nn.init.kaiming_normal_(self.mask.weight, mode="fan_in")
        nn.init.zeros_(self.mask.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)  # type: ignore[arg-type]

    def attention(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) weights that sum to one over the positions: what the block looks at."""
        mask = self.mask(x)
        return mask.flatten(2).softmax(-1).view_as(mask)

    def forward(self, x: Tensor) -> Tensor:
        context = (x * self.attention(x)).sum((2, 3), keepdim=True)
        transform = self.expand(self.relu(self.norm(self.squeeze(context))))
        return x + transform if self.fusion == "add" else x * transform.sigmoid()
