"""What `prediction.py` compares with: plain PyTorch, as most people would write it, and ONNX Runtime in its place.

A Dataset opens files with Pillow and torchvision resizes and normalises them; a DataLoader makes batches; a timm
network answers; the csv module writes the same columns. Nothing is made worse than it would be: no gradients, worker
processes stay alive from one turn to the next, and the field that a cell is cut from stays decoded for the cells after.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from cytodistill.infer.batch_list import Items
from cytodistill.infer.batch_read import Item
from cytodistill.recipe import Data

BATCH = 64
Network = Callable[[Tensor], Tensor]
"""Logits (B, C) of (B, 3, S, S) float32 images."""


@lru_cache(maxsize=4)
def _field(file: str) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


class Cells(Dataset):
    """Normalised images of cells, each with its position."""

    def __init__(self, items: Items, data: Data) -> None:
        self.items: list[Item] = items[:]
        side = [data.image_size, data.image_size]
        self.transform = v2.Compose(
            [
                v2.Resize(side, v2.InterpolationMode.BICUBIC, antialias=True),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(data.mean, data.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        item = self.items[index]
        file = str(Path(item.root, item.path))
        if item.box is None:
            with Image.open(file) as image:
                return self.transform(image.convert("RGB")), index
        x, y, width, height = (round(value) for value in item.box)
        return self.transform(_field(file).crop((x, y, x + width, y + height))), index


def loader_of(items: Items, data: Data, workers: int) -> DataLoader:
    """A DataLoader over all cells in their order."""
    return DataLoader(Cells(items, data), BATCH, num_workers=workers, persistent_workers=workers > 0)


def write_answers(network: Network, loader: DataLoader, classes: Sequence[str], file: Path) -> None:
    """Answer every cell of a loader, and write path, class, confidence and probabilities of each."""
    items = loader.dataset.items
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["path", "predicted", "confidence", *(f"prob_{name}" for name in classes), "error"])
        for images, positions in loader:
            probabilities = network(images).softmax(-1).numpy()
            best = probabilities.argmax(1)
            for position, row, code in zip(positions.tolist(), probabilities.tolist(), best.tolist(), strict=True):
                writer.writerow([items[position].name, classes[code], row[code], *row, ""])


def eager(name: str, classes: int, threads: int) -> Network:
    """A timm network in eager torch. Its weights are random, which its time does not depend on."""
    model = timm.create_model(name, num_classes=classes).eval()

    def answer(images: Tensor) -> Tensor:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return model(images)

    return answer


def onnx_runtime(name: str, classes: int, size: int, threads: int, folder: Path) -> Network:
    """The same as one float32 graph in ONNX Runtime."""
    import onnxruntime

    model, file = timm.create_model(name, num_classes=classes).eval(), folder / f"{name}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, size, size),),
            str(file),
            input_names=["images"],
            dynamic_axes={"images": {0: "batch"}},
            dynamo=False,  # needs no onnxscript; eval mode folds normalisations in either way
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def answer(images: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(session.run(None, {"images": images.numpy()})[0]))

    return answer
