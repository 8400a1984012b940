"""What an exit policy promises: to stay within a budget of computation, or to keep a risk small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cytodistill.errors import CytodistillError

Against = Literal["ensemble", "labels"]
Unit = Literal["groups", "cells"]


@dataclass(frozen=True)
class Budget:
    """The mean cost on the validation cells is at most ``budget``, as a share of the MACs of all exits; the answers
    are, as often as can be, those of all exits together ("ensemble") or right ("labels").

    Raises:
        CytodistillError: a field is out of bounds.
    """

    budget: float
    against: Against = "ensemble"

    def __post_init__(self) -> None:
        if not 0 < self.budget <= 1:
            raise CytodistillError(f"budget {self.budget:g}: give a share of the MACs above 0, at most 1")
        _check_against(self.against)

    @property
    def name(self) -> str:
        """What a policy of this promise is called where nobody names it."""
        return f"budget-{self.budget:g}" + ("-labels" if self.against == "labels" else "")

    def __str__(self) -> str:
        return f"at most {100 * self.budget:g} % of the MACs on the validation cells"


@dataclass(frozen=True)
class Risk:
    """With ``confidence`` over the draw of the validation cells, at most ``risk`` of new cells are answered otherwise
    than all exits together do ("ensemble"); or are wrong where all exits together are right ("labels"), which is at
    least what accuracy falls by.

    ``unit`` is what was counted as evidence. With "groups" a new cell is one of a newly drawn group (field, slide,
    patient), each group with the same chance; with "cells", cells are taken for drawn one by one.

    Raises:
        CytodistillError: a field is out of bounds.
    """

    risk: float
    confidence: float = 0.95
    unit: Unit = "groups"
    against: Against = "ensemble"

    def __post_init__(self) -> None:
        for name in ("risk", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise CytodistillError(f"{name} {getattr(self, name):g}: give a number between 0 and 1")
        if self.unit not in get_args(Unit):
            raise CytodistillError(f"risk by {self.unit!r}: give groups or cells")
        _check_against(self.against)

    @property
    def name(self) -> str:
        """What a policy of this promise is called where nobody names it."""
        return f"risk-{self.risk:g}" + ("-labels" if self.against == "labels" else "")

    def __str__(self) -> str:
        lost = "differs from all exits on" if self.against == "ensemble" else "loses the right answer to"
        of = "cells of new groups" if self.unit == "groups" else "new cells"
        return f"{lost} at most {100 * self.risk:g} % of {of}, with {100 * self.confidence:g} % confidence"


Promise = Budget | Risk


def promise_from_dict(values: Mapping[str, Any]) -> Promise:
    """The promise of these fields, as ``dataclasses.asdict`` gives them."""
    return Budget(**values) if "budget" in values else Risk(**values)


def _check_against(against: str) -> None:
    if against not in get_args(Against):
        raise CytodistillError(f"policy against {against!r}: give ensemble or labels")
