"""Graph convolution over clusters of the training cells (Shi et al. 2021, "Cervical cell classification with graph
convolutional network")."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

from cytodistill.estimators.numbers import Numbers, Sample
from cytodistill.estimators.svm import squared_distances

RATE, DECAY = 0.01, 5e-4
"""Adam's rate and weight decay, those of Kipf and Welling 2017."""


class GraphHead(Numbers):
    """Relation-aware features of clusters, joined to the cell's own: (B, D) → (B, C).

    Nodes are the k-means centroids V (K, D) of the training features; two graph convolutions (Kipf and Welling 2017)
    give relation-aware nodes H = Â ReLU(Â V W₁) W₂ (K, H'), Â = D^−½ (A + I) D^−½. A cell x reads them by its nearness
    to the clusters, r = Σ_k softmax_k(−‖x − v_k‖² / σ²) H_k, and [x; r] is classified linearly.

    Of this the paper's abstract fixes that cells' CNN features are clustered, that the clusters are a graph's nodes,
    and that a graph convolution's relation-aware features are joined with those of the CNN. How edges are drawn and
    weighted, how a cell reads the nodes, and that the CNN stays frozen, is this package's reading.
    """

    centroids: Tensor
    adjacency: Tensor
    width: Tensor
    first: Tensor
    second: Tensor
    weight: Tensor
    bias: Tensor

    def forward(self, features: Tensor) -> Tensor:
        nodes = self.adjacency @ (self.adjacency @ self.centroids @ self.first).relu() @ self.second
        reading = (-squared_distances(features, self.centroids) / self.width).softmax(dim=1) @ nodes
        return F.linear(torch.cat([features, reading], dim=1), self.weight, self.bias)


def cluster_graph(centroids: np.ndarray, neighbours: int) -> tuple[np.ndarray, float]:
    """Normalised adjacency Â (K, K) of (K, D) nodes, and σ².

    A_ij = exp(−‖v_i − v_j‖² / σ²) where one node is among the ``neighbours`` nearest of the other, else 0; σ² is the
    mean of the squared distances to those neighbours.
    """
    squared = ((centroids[:, None] - centroids[None]) ** 2).sum(axis=2)
    others = squared + np.diag(np.full(len(squared), np.inf))
    nearest = np.argsort(others, axis=1, kind="stable")[:, :neighbours]
    width = float(np.take_along_axis(squared, nearest, axis=1).mean()) or 1.0
    linked = np.zeros_like(squared, bool)
    np.put_along_axis(linked, nearest, True, axis=1)
    adjacency = np.where(linked | linked.T, np.exp(-squared / width), 0.0) + np.eye(len(squared))
    root = 1 / np.sqrt(adjacency.sum(axis=1))
    return root[:, None] * adjacency * root, width


def fit_graph(
    train: Sample, val: Sample, classes: int, *, clusters: int, neighbours: int, hidden: int, epochs: int, seed: int
) -> tuple[GraphHead, int]:
    """Graph head trained by Adam on all training cells at once, and the epoch that is kept: that of the lowest
    cross-entropy on ``val``, or the last where there is none. The same seed gives the same head on a CPU."""
    kmeans = KMeans(clusters, n_init=10, random_state=seed).fit(train.features.astype(np.float64))
    centroids = kmeans.cluster_centers_
    adjacency, width = cluster_graph(centroids, neighbours)
    wide, draw = train.features.shape[1], np.random.default_rng(seed)

    def glorot(rows: int, columns: int) -> np.ndarray:
        bound = np.sqrt(6 / (rows + columns))
        return draw.uniform(-bound, bound, (rows, columns))

    learnt = {
        "first": glorot(wide, hidden),
        "second": glorot(hidden, hidden),
        "weight": glorot(classes, wide + hidden),
        "bias": np.zeros(classes),
    }
    head = GraphHead(centroids=centroids, adjacency=adjacency, width=width, **learnt)
    parameters = [getattr(head, name).requires_grad_(True) for name in learnt]
    optimiser = torch.optim.Adam(parameters, lr=RATE, weight_decay=DECAY)
    best, kept_epoch, kept = np.inf, 0, head.state_dict()
    for epoch in range(epochs):
        optimiser.zero_grad()
        _cross_entropy(head, train).backward()
        optimiser.step()
        with torch.no_grad():
            judged = float(_cross_entropy(head, val)) if len(val) else -float(epoch)
        if judged < best:
            best, kept_epoch = judged, epoch
            kept = {name: values.clone() for name, values in head.state_dict().items()}
    head.load_state_dict(kept)
    head.requires_grad_(False)
    return head, kept_epoch


def _cross_entropy(head: GraphHead, cells: Sample) -> Tensor:
    return F.cross_entropy(head(torch.from_numpy(cells.features)), torch.from_numpy(cells.labels))
