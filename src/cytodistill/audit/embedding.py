"""Near copies by the features of a pretrained network, at a threshold that the network's own copies set.

``QUALITY`` decides how much the threshold lets in. At 96 px, ResNet-18 with natural-image weights, on the development
sets, where cells of two groups can hardly be copies (Herlev 232,844 such pairs; 1,500 cells of CRIC, 1,096,095):

| JPEG quality of the copies | 1 − cosine of 99 % of them | pairs of one group below it | of two groups |
| --- | --- | --- | --- |
| 90 | .020 (Herlev), .016 (CRIC) | 0, 2 | 0, 0 |
| **75** | .048, .029 | 8, 2 | 0, 0 |
| 40 | .116, .078 | 21, 36 | 26, 33 |

Most of Herlev's pairs are the same nucleus under two names. At 32 px the network tells cells apart far less, so S is
not the recipe's. Features are not the same for turned cells; the perceptual hash finds those.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from cytodistill.data.near_duplicates import Pair, copy_distance, embedding_pairs, reencoded
from cytodistill.errors import CytodistillError
from cytodistill.estimators.inputs import ImageInputs
from cytodistill.files import replacing
from cytodistill.models.multi_exit import Network, build_network
from cytodistill.models.weights import load_pretrained
from cytodistill.recipe import Recipe
from cytodistill.train.distributed import wants_gpu
from cytodistill.train.log import Watcher

QUALITY = 75
COPIED = 300
"""Cells of which copies are made to find the threshold."""
BATCH = 64


def embedded_pairs(
    cells: NDArray[np.uint8], recipe: Recipe, stored: Path, device: str, watcher: Watcher
) -> tuple[list[Pair], float]:
    """Near copies among (N, S, S, 3) uint8 cells by the deepest map of the recipe's student, averaged over its
    positions, with the weights that training would start from; and the distance up to which a pair counts. S need not
    be the recipe's: smaller cells look more alike.

    Embeddings are kept in the file ``stored``, and taken from there where cells and network are the same.

    Raises:
        CytodistillError: the recipe starts from random weights, which embed nothing, or the weights cannot be had.
    """
    if recipe.student.pretrained == "none":
        raise CytodistillError("student.pretrained=none: random weights embed nothing; give --pretrained FILE")
    network = build_network(recipe.student, 2, cells.shape[1], seed=0)
    load_pretrained(network, recipe.student.backbone, recipe.student.pretrained)
    key = _key(cells, network, recipe)
    found = _read(stored, key)
    if found is None:
        chosen = np.sort(np.random.default_rng(0).permutation(len(cells))[:COPIED])
        pictures = [cells, reencoded(np.asarray(cells[chosen]), QUALITY)]
        both = _embed(network, pictures, recipe, device, watcher)
        # Half precision would move distances by more than the nearest copies differ.
        found = (both[: len(cells)], copy_distance(both[chosen], both[len(cells) :]))
        with replacing(stored) as temporary, open(temporary, "wb") as file:
            np.savez(file, key=key, vectors=found[0], distance=found[1])
    return embedding_pairs(*found), found[1]


@torch.inference_mode()
def _embed(
    network: Network, pictures: list[NDArray[np.uint8]], recipe: Recipe, device: str, watcher: Watcher
) -> NDArray[np.float32]:
    """(N, D) embeddings of length one of all the pictures, one array after another."""
    where = torch.device("cuda" if wants_gpu(device) else "cpu")
    network = network.eval().to(where)
    network.keep_maps = True
    inputs = ImageInputs(recipe.data)
    total, vectors = sum(map(len, pictures)), []
    done = 0
    for cells in pictures:
        for start in range(0, len(cells), BATCH):
            batch = torch.from_numpy(np.array(cells[start : start + BATCH])).to(where)
            vectors.append(network(inputs.tensor(batch)).maps[-1].float().mean((2, 3)).cpu())
            done += len(batch)
            watcher.step("embed", done, total)
    return torch.nn.functional.normalize(torch.cat(vectors), dim=1).numpy()


def _key(cells: NDArray[np.uint8], network: Network, recipe: Recipe) -> str:
    """Hash of the pixels, the weights and how pixels become the network's input."""
    said = hashlib.blake2b(recipe.data.model_dump_json(include={"mean", "std"}).encode(), digest_size=16)
    said.update(recipe.student.model_dump_json().encode())
    for tensor in network.state_dict().values():
        said.update(tensor.numpy().tobytes())
    for start in range(0, len(cells), 1024):
        said.update(np.ascontiguousarray(cells[start : start + 1024]).tobytes())
    return said.hexdigest()


def _read(stored: Path, key: str) -> tuple[NDArray[np.float32], float] | None:
    try:
        with np.load(stored, allow_pickle=False) as file:
            return (file["vectors"], float(file["distance"])) if str(file["key"]) == key else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None  # none yet, or one that a crash left: it is made anew
