"""What a ranking of documents is worth: nDCG, recall, reciprocal rank, as trec_eval defines them.

Knows judgements and scores. It does not know who ranked, or how long it took.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from companion.quality.judged import Grades

Run = Mapping[str, Mapping[str, float]]
"""Question id to document id to score; higher is better."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over all judged questions, 0 to 1."""

    ndcg_10: float
    recall_5: float
    recall_20: float
    mrr: float
    """Of the first relevant document."""


class Scorer:
    """Scores runs by the same judgements."""

    def __init__(self, grades: Grades) -> None:
        import pytrec_eval

        self._grades = grades
        self._evaluator = pytrec_eval.RelevanceEvaluator(grades, {"ndcg_cut.10", "recall.5,20", "recip_rank"})

    def quality(self, run: Run) -> Quality:
        """A judged question that found nothing counts as 0."""
        found = self._evaluator.evaluate({question: dict(scores) for question, scores in run.items()})

        def mean(measure: str) -> float:
            total = sum(found[question][measure] for question in self._grades if question in found)
            return float(total / len(self._grades))

        return Quality(mean("ndcg_cut_10"), mean("recall_5"), mean("recall_20"), mean("recip_rank"))
