"""A judgement as a sentence, for those who read no code.

Pure. The page has sentences of its own, which can be translated. It does not know how one judges.
"""

from __future__ import annotations

from companion.quality.judgement import Judgement, Verdict

SENTENCES = {
    Verdict.NO_DEEP: "There is no deep layer yet, so there is nothing to compare.",
    Verdict.RANKS_HIGHER: "The deep layer finds about as much, and puts the right passage higher.",
    Verdict.RANKS_LOWER: "The deep layer finds about as much, and puts the right passage lower.",
    Verdict.NO_ROOM: "Nearly all is found without the deep layer, so these questions cannot tell its worth.",
    Verdict.NOTHING: "The deep layer brings nothing on these documents so far.",
}


def sentence(judgement: Judgement) -> str:
    """
    >>> sentence(Judgement(Verdict.FINDS_MORE, 80, gained=8))
    'The deep layer finds the right passage in 10 of 100 more questions.'
    """
    match judgement.verdict:
        case Verdict.FINDS_MORE:
            return f"The deep layer finds the right passage in {judgement.per_hundred} of 100 more questions."
        case Verdict.FINDS_FEWER:
            fewer = -judgement.per_hundred
            return f"The deep layer finds the right passage in {fewer} of 100 fewer questions."
        case Verdict.TOO_FEW:
            return f"{judgement.questions} questions are too few to tell what the deep layer brings."
        case verdict:
            return SENTENCES[verdict]
