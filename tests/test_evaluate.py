"""`python -m companion evaluate`: any judged set, through the search that everybody uses."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from companion import cli
from companion.config import REPOSITORY
from companion.domain import LOCAL_OWNER, Passage, Place
from companion.errors import EmbedderError
from companion.library.library import Library
from companion.library.vectors import VectorIndex
from companion.quality.command import add_arguments
from companion.quality.judged import read_judged_set
from companion.quality.measures import Scorer
from companion.quality.progress import ProgressLine
from companion.quality.spans import located
from companion.quality.throwaway import Method
from companion.storage.store import Store
from tests.fakes import FakeDeep, FakeEmbedder

CORPUS = {
    "tides": ("Tides", "The tide at Penlow rises twice a day, and the ferry waits for high water."),
    "ferry": ("The ferry", "The ferry to the island carries bicycles for one coin; dogs travel free."),
    "lamp": ("", "The lamp of the lighthouse burned whale oil until electric light came in 1931."),
    "bread": ("Baking", "Bread rises slowly in a cold kitchen. Let the dough rest over night."),
    "storm": ("Storms", "In a storm the lighthouse keeper sounds the horn and the harbour is closed."),
    "bells": ("Bells", "The bells of the chapel ring on Sundays and when somebody marries."),
}
QUESTIONS = {
    "q1": "When does the ferry wait for the tide?",
    "q2": "Which oil burned in the lamp?",
    "q3": "Does dough rest in a cold kitchen?",
    "q4": "Who painted the ceiling?",
    "q5": "Where are the keys?",
}
GRADES = [("q1", "tides", 2), ("q1", "ferry", 1), ("q2", "lamp", 1), ("q3", "bread", 1), ("q4", "bells", 0)]
ALL = "lexical,light,hybrid,feedback,deep,direct"


class CountingEmbedder(FakeEmbedder):
    """Remembers the passages it was given."""

    def __init__(self):
        super().__init__()
        self.given = []

    def embed_passages(self, texts):
        self.given += texts
        return super().embed_passages(texts)


class MuteEmbedder(FakeEmbedder):
    """Knows passages, but fails at questions."""

    def embed_query(self, text):
        raise EmbedderError("The embedder broke off.")

    def embed_passages(self, texts):
        return np.eye(len(texts), self.identity.dimension, dtype=np.float32)


class Ran:
    """What a person sees of a command that ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def figures(self):
        return json.loads(self.out)["methods"]


def write_set(folder, corpus=CORPUS, questions=QUESTIONS, grades=GRADES):
    folder.mkdir(parents=True)
    corpus_lines = [json.dumps({"_id": k, "title": t, "text": x}) for k, (t, x) in corpus.items()]
    (folder / "corpus.jsonl").write_text("\n".join(corpus_lines) + "\n", encoding="utf-8")
    lines = [json.dumps({"_id": key, "text": text}) for key, text in questions.items()]
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in grades)]
    (folder / "qrels.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def judged(tmp_path):
    return write_set(tmp_path / "harbour")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary folders are made; nothing else lies there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def evaluate(tmp_path, capsys, temporary):
    """The command, with embedders of one's own; data and caches in a folder of the test."""

    def run(folder, *options, light=None, deep=None):
        places = ["--data-dir", str(tmp_path / "data"), "--weights-dir", str(tmp_path / "weights")]
        code = cli.main(
            ["evaluate", str(folder), *options, *places],
            light=lambda settings: light or FakeEmbedder(),
            deep=lambda settings: deep or FakeDeep(),
            reader=lambda settings: FakeDeep(),
        )
        return Ran(code, *capsys.readouterr())

    return run


# --- what it says -----------------------------------------------------------------------


def test_a_person_gets_a_table_with_a_line_for_each_way_to_search(evaluate, judged):
    ran = evaluate(judged, "--layers", ALL)
    assert ran.code == 0
    about, _empty, heading, *lines = ran.out.splitlines()
    assert "harbour: 6 documents" in about
    assert "3 questions (2 without a relevant document left out)" in about
    assert "bag-of-words" in about
    assert "deep-bag" in about
    assert heading.split() == ["method", "nDCG@10", "recall@5", "recall@20", "MRR", "p50", "ms", "p95", "ms"]
    assert [line.split()[0] for line in lines] == ALL.split(",")
    assert all(float(cell) > 0 for line in lines for cell in line.split()[1:])


def test_a_program_gets_json_while_progress_goes_elsewhere(evaluate, judged):
    ran = evaluate(judged, "--json")
    assert list(ran.figures) == ["lexical", "light", "hybrid", "feedback"]
    assert set(ran.figures["light"]) == {
        "ndcg@10", "recall@5", "recall@20", "mrr", "latency_p50_ms", "latency_p95_ms"
    }  # fmt: skip
    assert json.loads(ran.out)["questions"] == 3
    assert json.loads(ran.out)["skipped"] == 2
    assert "6 of 6 documents read" in ran.err


def test_the_figures_are_those_one_computes_by_hand(evaluate, tmp_path):
    corpus = {
        "short": ("", "A heron."),
        "long": ("", "A heron stood in the reeds and waited for frogs until the evening came."),
        "other": ("", "Nothing of that kind."),
    }
    folder = write_set(tmp_path / "birds", corpus, {"q": "heron"}, [("q", "long", 1), ("q", "other", 1)])
    found = evaluate(folder, "--layers", "lexical", "--json").figures["lexical"]
    # BM25 puts the shorter text first and does not find the third: one of two, in second place.
    assert found["mrr"] == 0.5
    assert found["recall@5"] == found["recall@20"] == 0.5
    assert found["ndcg@10"] == pytest.approx(0.63093 / 1.63093, abs=1e-4)


def test_relevant_documents_that_are_not_there_are_counted(evaluate, tmp_path):
    folder = write_set(tmp_path / "cut off", grades=[*GRADES, ("q1", "gone", 1), ("q5", "never", 0)])
    assert "and so never found: 1;" in evaluate(folder).out.splitlines()[0]
    assert json.loads(evaluate(folder, "--json").out)["missing"] == 1


def test_no_more_questions_are_asked_than_one_likes(evaluate, judged):
    ran = evaluate(judged, "--limit", "2", "--json")
    assert json.loads(ran.out)["questions"] == 2
    assert json.loads(ran.out)["documents"] == 6


def test_words_alone_need_no_embedder(evaluate, judged, capsys, tmp_path):
    def none(settings):
        raise EmbedderError("There is no embedder.")

    places = ["--data-dir", str(tmp_path / "d"), "--weights-dir", str(tmp_path / "w"), "--json"]
    assert cli.main(["evaluate", str(judged), "--layers", "lexical", *places], light=none, deep=none) == 0
    assert cli.main(["evaluate", str(judged), "--layers", "light", *places], light=none, deep=none) == 2
    assert "There is no embedder." in capsys.readouterr().err


# --- the same search as everywhere ------------------------------------------------------


def test_the_rankings_are_those_of_the_search(evaluate, judged, tmp_path):
    run = tmp_path / "run.txt"
    evaluate(judged, "--layers", "feedback", "--run", str(run))
    texts = read_judged_set(judged)
    store = Store.open(tmp_path / "own" / "companion.db")
    library = Library(
        store,
        FakeEmbedder(),
        VectorIndex(tmp_path / "own" / "index"),
        originals=tmp_path / "own" / "originals",
        max_bytes=10**6,
    )
    try:
        library.open_index()
        for key, text in texts.corpus.items():
            library.add(LOCAL_OWNER, f"{key}.txt", text.encode())
        with run.open() as file:
            ranked = pytrec_eval.parse_run(file)
        for key, question in texts.questions.items():
            hits = library.search(LOCAL_OWNER, question, top_k=4).hits
            found = sorted(ranked[key].items(), key=lambda entry: -entry[1])[:4]
            assert [name for name, _score in found] == [
                hit.document_name.removesuffix(".txt") for hit in hits
            ]
            assert [score for _name, score in found] == pytest.approx([hit.score for hit in hits], abs=1e-3)
    finally:
        library.close()
        store.close()


def test_a_document_counts_once_with_its_best_passage(evaluate, tmp_path):
    filler = " ".join(f"Sentence {number} tells of harbours and ropes." for number in range(600))
    corpus = {
        "long": ("", f"{filler} The heron sleeps. {filler} A heron, a heron, a heron."),
        "weak": ("", "One may see a heron here, or a gull, or a tern, or a swan, or a duck, or a goose."),
    }
    folder = write_set(tmp_path / "birds", corpus, {"q": "heron"}, [("q", "long", 1)])
    run = tmp_path / "run.txt"
    ran = evaluate(folder, "--layers", "lexical,hybrid", "--run", str(run), "--json")
    assert json.loads(ran.out)["passages"] > 10
    lexical = [line.split() for line in run.read_text().splitlines() if line.endswith("lexical")]
    assert sorted(line[2] for line in lexical) == ["long", "weak"]
    assert [line[3] for line in lexical] == ["1", "2"]


def test_the_run_file_gives_others_the_same_figures(evaluate, judged, tmp_path):
    run = tmp_path / "run.txt"
    figures = evaluate(judged, "--layers", ALL, "--run", str(run), "--json").figures
    lines = run.read_text().splitlines()
    assert [*dict.fromkeys(line.split()[5] for line in lines)] == ALL.split(",")
    evaluator = pytrec_eval.RelevanceEvaluator(read_judged_set(judged).grades, {"ndcg_cut.10", "recip_rank"})
    for method, told in figures.items():
        part = pytrec_eval.parse_run(line for line in lines if line.endswith(f" {method}"))
        checked = evaluator.evaluate(part)
        for ours, theirs in (("ndcg@10", "ndcg_cut_10"), ("mrr", "recip_rank")):
            mean = sum(scores[theirs] for scores in checked.values()) / 3
            assert told[ours] == pytest.approx(mean, abs=1e-6)


def test_each_way_to_search_ranks_by_itself(evaluate, judged, tmp_path):
    run = tmp_path / "run.txt"
    evaluate(judged, "--layers", ALL, "--run", str(run))
    rankings = {}
    for line in run.read_text().splitlines():
        question, _q0, document, _rank, score, method = line.split()
        rankings.setdefault(method, {})[question, document] = score
    assert len(rankings) == len({tuple(ranking.items()) for ranking in rankings.values()}) == 6


def test_an_embedder_that_fails_is_told_and_nothing_is_measured_in_its_place(evaluate, judged):
    ran = evaluate(judged, "--layers", "hybrid", light=MuteEmbedder())
    assert ran.code == 2
    assert "The embedder broke off." in ran.err
    assert ran.out == ""


# --- what it costs, and what it leaves --------------------------------------------------


def test_a_second_run_embeds_nothing_and_says_the_same(evaluate, judged, tmp_path):
    first, second = CountingEmbedder(), CountingEmbedder()
    deep, idle = FakeDeep(), FakeDeep()
    runs = tmp_path / "one", tmp_path / "two"
    evaluate(judged, "--layers", ALL, "--run", str(runs[0]), light=first, deep=deep)
    evaluate(judged, "--layers", ALL, "--run", str(runs[1]), light=second, deep=idle)
    assert len(first.given) == 6
    assert second.given == []
    assert (deep.starts, idle.starts) == (1, 0)
    assert runs[0].read_text() == runs[1].read_text()


def test_only_new_texts_are_embedded(evaluate, judged, tmp_path):
    evaluate(judged)
    more = write_set(tmp_path / "more", {**CORPUS, "new": ("", "A heron stands in the reeds.")})
    embedder = CountingEmbedder()
    evaluate(more, light=embedder)
    assert embedder.given == ["A heron stands in the reeds."]


def test_another_embedder_gets_vectors_of_its_own(evaluate, judged):
    evaluate(judged)
    other = CountingEmbedder()
    other.identity = FakeEmbedder("another").identity
    evaluate(judged, light=other)
    assert len(other.given) == 6


def test_vectors_whose_writing_was_cut_off_are_computed_again(evaluate, judged, tmp_path):
    evaluate(judged)
    (kept,) = (tmp_path / "weights" / "vectors").glob("*.vectors")
    kept.write_bytes(kept.read_bytes()[:-7])
    for expected in (1, 0):
        embedder = CountingEmbedder()
        assert evaluate(judged, light=embedder).code == 0
        assert len(embedder.given) == expected


def test_the_deep_embedder_is_opened_only_when_asked_for_and_gives_the_machine_back(evaluate, judged):
    deep = FakeDeep()
    evaluate(judged, deep=deep)
    assert deep.starts == 0
    evaluate(judged, "--layers", "deep", deep=deep)
    assert (deep.starts, deep.kills, deep.running) == (1, 1, False)


def test_neither_data_nor_a_temporary_folder_remains(evaluate, judged, tmp_path, temporary):
    assert evaluate(judged, "--layers", ALL).code == 0
    assert not (tmp_path / "data").exists()
    assert list(temporary.iterdir()) == []


SLOW = """
import sys, time
from companion import cli
from tests.fakes import FakeEmbedder

class Slow(FakeEmbedder):
    def embed_passages(self, texts):
        print("embedding", flush=True)
        time.sleep(3)
        return super().embed_passages(texts)

sys.exit(cli.main(sys.argv[1:], light=lambda settings: Slow()))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_interrupted_leaves_no_temporary_folder(judged, tmp_path, number):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    places = ["--data-dir", str(tmp_path / "data"), "--weights-dir", str(tmp_path / "weights")]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, "evaluate", str(judged), *places],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "embedding\n"
        assert len(list(temporary.iterdir())) == 1
        process.send_signal(number)
        _out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(temporary.iterdir()) == []


def test_the_page_about_it_names_each_option_and_method():
    page = (REPOSITORY / "docs" / "evaluate.md").read_text(encoding="utf-8")
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    options = [option for action in parser._actions for option in action.option_strings]
    assert len(options) == 4
    assert [name for name in (*options, *(f"`{method}`" for method in Method)) if name not in page] == []


# --- what it refuses --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(evaluate, judged, name):
    (judged / name).unlink()
    ran = evaluate(judged)
    assert ran.code == 2
    assert f"has no {name};" in ran.err


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\nnonsense\n', "corpus.jsonl, line 2, is not JSON"),
        ("corpus.jsonl", '{"_id": "a", "title": "x"}\n', "corpus.jsonl, line 1, has no text"),
        ("corpus.jsonl", '\n{"text": "x"}\n', "corpus.jsonl, line 2, has no _id"),
        ("corpus.jsonl", '["a", "b"]\n', "line 1, has no text"),
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n', "line 2, repeats"),
        ("corpus.jsonl", "", "corpus.jsonl is empty"),
        ("queries.jsonl", '{"_id": "q1", "text": 7}\n', "queries.jsonl, line 1, has no text"),
        ("qrels.tsv", "q1 tides 1\n", "qrels.tsv, line 1, has 1 columns"),
        ("qrels.tsv", "q1\ttides\t1\nq1\tferry\tmuch\n", "qrels.tsv, line 2, has the score 'much'"),
        ("corpus.jsonl", "[" * 100_000 + "\n", "corpus.jsonl, line 1, is not JSON"),
        ("corpus.jsonl", '{"_id": " ", "text": "x"}\n', "corpus.jsonl, line 1, has no _id"),
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\n{"_id": "a ", "text": "y"}\n', "line 2, repeats"),
        ("qrels.tsv", "q1\ttides\tmuch\nq2\tlamp\t1\n", "qrels.tsv, line 1, has the score 'much'"),
        ("qrels.tsv", "q1\ttides\t1.0\n", "qrels.tsv, line 1, has the score '1.0'"),
        ("qrels.tsv", f"q1\ttides\t{10**9}\n", "qrels.tsv, line 1, has the score '1000000000'"),
        ("qrels.tsv", f"q1\ttides\t{10**20}\n", "qrels.tsv, line 1, has the score"),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\n", "No question"),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\nq9\ttides\t1\n", "No question"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(evaluate, judged, name, text, said):
    (judged / name).write_text(text, encoding="utf-8")
    ran = evaluate(judged)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_line_in_another_encoding_is_named(evaluate, judged):
    (judged / "queries.jsonl").write_bytes('{"_id": "q1", "text": "Café"}\n'.encode("latin-1"))
    assert "queries.jsonl, line 1, is not UTF-8" in evaluate(judged).err


def test_half_a_surrogate_pair_and_numbers_as_ids_are_taken(evaluate, judged):
    (judged / "queries.jsonl").write_text('{"_id": 1, "text": "the ferry \\ud83d tide"}\n')
    (judged / "qrels.tsv").write_text("1\ttides\t1\n")
    assert evaluate(judged, "--json").figures["hybrid"]["recall@5"] == 1


def test_ids_are_the_same_with_blanks_around_them_and_may_hold_half_a_surrogate_pair(evaluate, tmp_path):
    corpus = {" tides ": CORPUS["tides"], "\ud83d": ("", "The keys hang in the hall.")}
    questions = {"q1 ": QUESTIONS["q1"], "q5": QUESTIONS["q5"]}
    folder = write_set(tmp_path / "ids", corpus, questions, [("q1", "tides", 1), ("q5", "?", 1)])
    ran = evaluate(folder, "--json")
    assert json.loads(ran.out)["questions"] == 2
    assert ran.figures["hybrid"]["recall@5"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layers", "lexical,deepest"], "--layers cannot be 'lexical,deepest'"),
        (["--limit", "0"], "--limit cannot be 0"),
        (["--run", "."], "cannot be written"),
        (["--run", "no-such-folder/run.txt"], "cannot be written"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_before_any_work(evaluate, judged, options, said):
    ran = evaluate(judged, *options)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1


def test_an_id_that_a_run_file_cannot_hold_is_refused_before_any_work(evaluate, tmp_path):
    folder = write_set(tmp_path / "spaced", {"a b": ("", "A heron.")}, {"q": "heron"}, [("q", "a b", 1)])
    assert evaluate(folder).code == 0
    ran = evaluate(folder, "--run", str(tmp_path / "run.txt"))
    assert ran.code == 2
    assert "'a b' has a space" in ran.err


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_a_run_is_not_written_over_the_set(evaluate, judged, name):
    before = (judged / name).read_bytes()
    ran = evaluate(judged, "--run", str(judged / name))
    assert ran.code == 2
    assert "is a file of the judged set" in ran.err
    assert (judged / name).read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_figures_are_told_even_if_the_run_cannot_be_written(evaluate, judged):
    ran = evaluate(judged, "--run", "/dev/full")
    assert ran.code == 2
    assert "feedback" in ran.out
    assert "/dev/full cannot be written" in ran.err


# --- exact answers ----------------------------------------------------------------------


def with_answers(folder, text, *spans):
    """One long document beside a judged set, and where the answer to q1 stands in it."""
    (folder / "documents").mkdir(exist_ok=True)
    (folder / "documents" / "log.md").write_bytes(text.encode())
    lines = [json.dumps({"query_id": "q1", "doc": "log", **span}) for span in spans]
    (folder / "spans.jsonl").write_text("\n".join(lines) + "\n")


def test_exact_answers_are_told_by_how_much_of_them_reaches_the_prompt(evaluate, judged):
    answer = "The ferry waits for the tide at noon."
    text = f"{answer} Then it leaves."
    with_answers(judged, text, {"start": 0, "end": len(answer)})
    ran = evaluate(judged, "--layers", "lexical,light", "--json")
    assert ran.figures["lexical"]["span_recall"] == 1
    share = len(answer) / len(text)
    assert ran.figures["light"]["span_precision"] == pytest.approx(share, abs=1e-6)
    assert ran.figures["light"]["span_iou"] == pytest.approx(share, abs=1e-6)
    assert "exact answers, in characters, and the 5 passages" in evaluate(judged).out


def test_an_answer_that_stands_in_two_places_may_be_found_in_either(evaluate, judged):
    filler = " ".join(f"Line {number} tells of ropes and anchors." for number in range(900))
    answer = "The ferry waits for the tide."
    text = f"{answer} {filler}\r\n\r\nA tide, a ferry, a tide, a ferry: {answer}"
    first, second = ([start, start + len(answer)] for start in (0, text.rindex(answer)))
    for also, recall in (([], 0), ([second], 1)):
        with_answers(judged, text, {"start": first[0], "end": first[1], "also": also})
        told = evaluate(judged, "--layers", "lexical", "--top-k", "1", "--json").figures["lexical"]
        assert told["span_recall"] == recall


def test_passages_that_repeat_a_short_one_before_them_are_located():
    """All figures were lost after all the work, in 28 of 200 transcripts."""
    texts = {"talk": "Anna:\n\nAnna: so we went down. Anna: so we went"}
    cut = [
        Passage(f"d:{n}", "d", n, text, str(n), Place(), 5)
        for n, text in enumerate(["Anna:", "Anna:\n\nAnna: so we went down.", "Anna: so we went"])
    ]
    assert [span[1:] for span in located(texts, {"talk": cut}).values()] == [(0, 5), (0, 29), (30, 46)]


@pytest.mark.parametrize("span", [{"start": 0, "end": 900}, {"start": 5, "end": 5}, {"start": 0}])
def test_a_span_that_is_none_is_named(evaluate, judged, span):
    with_answers(judged, "The ferry waits.", span)
    ran = evaluate(judged)
    assert ran.code == 2
    assert "spans.jsonl, line 1, is not" in ran.err


# --- progress ---------------------------------------------------------------------------


class Stream:
    """A terminal, or a file."""

    def __init__(self, terminal):
        self._terminal = terminal
        self.text = ""

    def isatty(self):
        return self._terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_progress_is_one_line_on_a_terminal_and_few_lines_in_a_file():
    terminal, file = Stream(True), Stream(False)
    for stream in (terminal, file):
        now = [0.0]
        with ProgressLine(stream, lambda now=now: now[0]) as progress:
            for done in range(1, 641):
                now[0] += 1 / 32
                progress("passages", done, 640)
    assert "\n" not in terminal.text
    assert terminal.text.endswith("\r\033[K")
    assert file.text.splitlines() == ["320 of 640 passages", "640 of 640 passages"]


# --- with real weights ------------------------------------------------------------------


@pytest.mark.weights
def test_words_and_meanings_together_beat_each_alone(shared, light_embedder, tmp_path, capsys, temporary):
    places = ["--data-dir", str(tmp_path / "data"), "--weights-dir", str(tmp_path / "weights")]
    command = ["evaluate", str(shared / "eval" / "adi"), "--json", *places]
    assert cli.main(command, light=lambda settings: light_embedder) == 0
    figures = json.loads(capsys.readouterr().out)["methods"]
    ndcg = {method: told["ndcg@10"] for method, told in figures.items()}
    assert ndcg["hybrid"] > max(ndcg["lexical"], ndcg["light"]) - 0.01, ndcg
    assert ndcg["feedback"] > ndcg["hybrid"] - 0.01, ndcg
    assert ndcg["hybrid"] > 0.5, ndcg


def test_ranked_documents_are_scored_as_trec_eval_defines_it():
    quality = Scorer({"q": {"a": 2, "b": 1, "c": 1}}).quality({"q": {"x": 3.0, "a": 2.0, "c": 1.0}})
    assert quality.mrr == 0.5
    assert quality.recall_5 == pytest.approx(2 / 3)
    ideal = 2 + 1 / 1.58496 + 1 / 2
    assert quality.ndcg_10 == pytest.approx((2 / 1.58496 + 1 / 2) / ideal, abs=1e-4)
