"""The run that answers, and its card."""

from __future__ import annotations

import json

from fastapi import APIRouter

from cytodistill.serve.errors import Refused, problems
from cytodistill.serve.routes.common import Served
from cytodistill.serve.schemas import Card, Model

router = APIRouter(prefix="/model", tags=["model"])


@router.get("", responses=problems(503))
async def model(service: Served) -> Model:
    """Classes, exits, thresholds and limits."""
    limits = {name: float(value) for name, value in service.settings.limits.model_dump().items()}
    return (await service.model()).schema(limits)


@router.get("/card", responses=problems(404))
def card(service: Served) -> Card:
    """The model card of the run's report."""
    file = service.settings.run / "report" / "model_card.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise Refused(404, "card: the run has none; make its report first") from None
    if not isinstance(content, dict):
        raise Refused(404, "card: the run has none; make its report first")
    return content
