"""Route of the search.

It does not know how passages are ranked.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from companion.api.access import CompanionOf, OwnerOf
from companion.api.schemas import passages as shapes

router = APIRouter(tags=["search"])


@router.get("/search")
def search(
    companion: CompanionOf,
    owner: OwnerOf,
    q: Annotated[str, Query(description="The question, any text")],
    top_k: Annotated[int | None, Query(ge=1, le=50, description="Default: the setting")] = None,
    doc_id: Annotated[list[str] | None, Query(description="Only in this document; repeatable")] = None,
) -> shapes.SearchAnswer:
    """The passages that answer a question best, with scores and the layers that found them."""
    found = companion.library.search(owner, q, top_k or companion.sessions.preferences(owner).top_k, doc_id)
    return shapes.SearchAnswer.model_validate(found)
