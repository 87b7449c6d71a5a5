"""A judged set: texts, questions, and which text answers which question.

Knows the three files of a folder in the layout of BEIR and checks them line by line. It does not
know how anything is searched or scored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from companion.errors import InvalidInput

FILES = CORPUS, QUERIES, JUDGEMENTS = "corpus.jsonl", "queries.jsonl", "qrels.tsv"
HIGHEST_GRADE = 1000
"""trec_eval counts every grade up to the highest: with two thousand million of them memory runs out."""

Grades = dict[str, dict[str, int]]
"""Question id to document id to grade; 0 is judged and of no use."""


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """Documents and the questions that can be scored."""

    name: str
    corpus: dict[str, str]
    """Text by document id, under its title if it has one."""
    questions: dict[str, str]
    """Those for which something is relevant."""
    grades: Grades
    """Of these questions."""
    skipped: int
    """Questions for which nothing is judged relevant."""

    @property
    def missing(self) -> int:
        """Relevant documents that are not in the corpus: nobody can find them."""
        relevant = {
            document for judged in self.grades.values() for document, grade in judged.items() if grade > 0
        }
        return len(relevant - self.corpus.keys())

    def first(self, count: int) -> JudgedSet:
        """With no more questions than these; all documents stay."""
        kept = dict(list(self.questions.items())[:count])
        return replace(self, questions=kept, grades={key: self.grades[key] for key in kept})


def read_judged_set(folder: Path) -> JudgedSet:
    """Read and check a folder. Raises `InvalidInput` with the file and the line."""
    _require_files(folder)
    corpus = {key: _with_title(entry) for key, entry in _entries(folder / CORPUS)}
    asked = {key: _text(entry["text"]) for key, entry in _entries(folder / QUERIES)}
    grades = _grades(folder / JUDGEMENTS, asked)
    useful = {key for key, judged in grades.items() if any(grade > 0 for grade in judged.values())}
    questions = {key: text for key, text in asked.items() if key in useful}
    if not questions:
        raise InvalidInput(f"No question of {folder / QUERIES} has a relevant document in {JUDGEMENTS}.")
    return JudgedSet(
        folder.resolve().name,
        corpus,
        questions,
        {key: grades[key] for key in questions},
        len(asked) - len(questions),
    )


def _require_files(folder: Path) -> None:
    if not folder.is_dir():
        raise InvalidInput(f"There is no folder {folder}.")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise InvalidInput(
            f"{folder} has no {' and no '.join(missing)}; it takes {CORPUS}, {QUERIES} and {JUDGEMENTS}."
        )


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Id and entry of each line that is not empty."""
    seen: set[str] = set()
    for where, line in read_lines(path):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            raise InvalidInput(f"{where} is not JSON; each line is one object.") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
            raise InvalidInput(f"{where} has no text; each line is an object with _id and text.")
        key = entry.get("_id")
        named = isinstance(key, (str, int)) and not isinstance(key, bool)
        name = _text(str(key)) if named else ""
        if not name:
            raise InvalidInput(f"{where} has no _id; each line is an object with _id and text.")
        if name in seen:
            raise InvalidInput(f"{where} repeats the _id {name}; each is used once.")
        seen.add(name)
        yield name, entry
    if not seen:
        raise InvalidInput(f"{path} is empty.")


def _grades(path: Path, asked: Container[str]) -> Grades:
    grades: Grades = {}
    for number, (where, line) in enumerate(read_lines(path)):
        columns = line.split("\t")
        if len(columns) != 3:
            raise InvalidInput(f"{where} has {len(columns)} columns; they are query-id, corpus-id and score.")
        query, document, grade = (column.strip() for column in columns)
        if number == 0 and query not in asked and not _is_whole(grade):
            # The heading.
            continue
        if not _is_whole(grade) or int(grade) > HIGHEST_GRADE:
            raise InvalidInput(
                f"{where} has the score {grade!r}; it is a whole number, {HIGHEST_GRADE} at most."
            )
        grades.setdefault(query, {})[document] = int(grade)
    return grades


def _is_whole(grade: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]{1,9}", grade) is not None


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Where each line that is not empty stands, in words, and the line. Raises `InvalidInput`."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                where = f"{path}, line {number},"
                try:
                    line = raw.decode("utf-8-sig").rstrip("\r\n")
                except UnicodeDecodeError:
                    raise InvalidInput(f"{where} is not UTF-8.") from None
                if line.strip():
                    yield where, line
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}.") from error


def _with_title(entry: dict[str, Any]) -> str:
    return _text(f"{entry.get('title') or ''}\n\n{entry['text']}")


def _text(text: str) -> str:
    # JSON can hold half a surrogate pair, which no tokenizer takes.
    return text.encode("utf-8", "replace").decode().strip()
