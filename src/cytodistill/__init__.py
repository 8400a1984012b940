"""cytodistill: small multi-exit classifiers of cervical cells by transfer learning and (self-)distillation.

The Python interface mirrors the command line::

    import cytodistill

    run = cytodistill.fit("cells/", "runs/first", recipe="quick")
    metrics = cytodistill.evaluate("runs/first").metrics
    predictor = cytodistill.load("runs/first")
    probabilities = predictor.predict(["cell.png"]).probabilities

Names load on first use, so that ``import cytodistill`` (and ``cytodistill --help``) does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cytodistill.errors import CytodistillError

if TYPE_CHECKING:
    from cytodistill.evaluation.compare import compare
    from cytodistill.evaluation.run import evaluate
    from cytodistill.infer.predictor import load
    from cytodistill.recipe import Recipe
    from cytodistill.train.fit import fit

__version__ = "0.1.0"
__all__ = ["CytodistillError", "Recipe", "__version__", "compare", "evaluate", "fit", "load"]

_HOMES = {
    "fit": "cytodistill.train.fit",
    "evaluate": "cytodistill.evaluation.run",
    "compare": "cytodistill.evaluation.compare",
    "load": "cytodistill.infer.predictor",
    "Recipe": "cytodistill.recipe",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        home = importlib.import_module(_HOMES[name])
        value = getattr(home, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'cytodistill' has no attribute {name!r}")
