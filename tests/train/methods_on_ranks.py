"""Runs a few steps of every method in one process group, for a test that starts it on two ranks.

python methods_on_ranks.py SOURCE FOLDER RECIPES.json
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from cytodistill.recipe import Recipe
from cytodistill.train.fit import fit


def main() -> None:
    source, folder, recipes = sys.argv[1:4]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(minutes=5))
    for name, settings in json.loads(Path(recipes).read_text(encoding="utf-8")).items():
        fit(source, Path(folder) / name, recipe=Recipe.check(settings), device="cpu")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
