"""Retrieval figures for tests: nDCG@k as in trec_eval, over small judged sets."""

import csv
import json
import math
from pathlib import Path


def read_set(folder: Path):
    """Corpus as {id: text}, queries as {id: text}, judgements as {query: {document: grade}}."""
    corpus = {}
    for line in (folder / "corpus.jsonl").read_text().splitlines():
        entry = json.loads(line)
        corpus[entry["_id"]] = f"{entry.get('title', '')}\n\n{entry['text']}".strip()
    queries = {
        e["_id"]: e["text"] for e in map(json.loads, (folder / "queries.jsonl").read_text().splitlines())
    }
    judged: dict[str, dict[str, int]] = {}
    with (folder / "qrels.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            judged.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return corpus, queries, judged


def ndcg(ranked: list[str], grades: dict[str, int], k: int = 10) -> float:
    gained = sum(grades.get(doc, 0) / math.log2(place + 2) for place, doc in enumerate(ranked[:k]))
    ideal = sum(g / math.log2(place + 2) for place, g in enumerate(sorted(grades.values(), reverse=True)[:k]))
    return gained / ideal if ideal else 0.0
