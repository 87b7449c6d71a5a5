"""Routes of the quality: how well the search finds what stands in one's own documents.

It does not know how questions are made, or what is measured.
"""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from companion.api.access import AdminOf, CompanionOf, OwnerOf
from companion.api.errors import refusals
from companion.api.schemas import quality as shapes
from companion.quality.judgement import Judgement
from companion.quality.overview import Miss, overview
from companion.quality.words import sentence

router = APIRouter(tags=["quality"])

MISSES = 50
"""Told at most."""


@router.get("/quality")
def quality(companion: CompanionOf, owner: OwnerOf) -> shapes.Quality:
    """What the latest measurement found, what is done now, and earlier measurements."""
    now = overview(companion.store, companion.work.study, owner)
    return shapes.Quality(
        activity=now.status.activity,
        done=now.status.done,
        total=now.status.total,
        trouble=now.status.trouble,
        samples=now.samples,
        questions=len(now.items),
        without_model=now.without_model,
        models=now.models,
        latest=shapes.Measurement.model_validate(now.latest) if now.latest else None,
        judgement=_judgement(now.judgement) if now.judgement else None,
        changes={name: shapes.Change.model_validate(each) for name, each in now.changes.items()},
        misses=[_miss(each) for each in now.misses[:MISSES]],
        history=[shapes.Measurement.model_validate(each) for each in now.history],
    )


@router.post("/quality", status_code=202, responses=refusals(409))
def measure(companion: CompanionOf, owner: AdminOf) -> shapes.QualityWish:
    """Measure now, without waiting for idle time; where there are too few questions, make some first."""
    companion.work.study.measure_now(owner)
    return shapes.QualityWish(wish="measure")


def _judgement(judgement: Judgement) -> shapes.Judgement:
    return shapes.Judgement(**asdict(judgement), sentence=sentence(judgement))


def _miss(miss: Miss) -> shapes.Miss:
    item = miss.item
    return shapes.Miss(
        question_id=item.question_id,
        question=item.question,
        made_by=item.made_by,
        chunk_id=item.chunk_id,
        doc_id=item.doc_id,
        document_name=item.document_name,
        ranks=miss.ranks,
    )
