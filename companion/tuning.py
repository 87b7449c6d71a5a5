"""The constants of the pipeline from text to prompt, each with the measurement that chose it.

Numbers only, `docs/measurements.md` has the tables with the losers; it does not know who uses them.
Other constants stand where they are used: they follow from a format or a machine.
"""

from __future__ import annotations

# --- passages and windows: a change moves `CHUNKER_VERSION` -----------------------------

LONGEST_PASSAGE = 500
"""In tokens of `library.chunking`. On chunk-eval 250, 350 and 700 find less of the answers in the same
room for a prompt."""
STRETCHED_TOKENS = 550
"""Rather a little more than a passage of one sentence behind it. A judgement."""
OVERLAP_TOKENS = 40
"""Of whole sentences that a passage repeats of the one before. With none, .014 less of chunk-eval's answers
are found, with 80 .007 less."""
OVERLAP_SENTENCES = 2
TITLE_TOKENS = 50
"""A section below is a title: no passage of its own, however long what follows."""
SMALL_TOKENS = 60
"""Sections below go with their neighbours. Merged up to the full length whatever their headings,
“How do I add documents?” found its paragraph with a cosine of .40 among five others."""
WINDOW_OVERLAP = 1 / 8
"""Of two windows of a passage, for an embedder that reads less than a passage. 0 and 1/4 find as much of
chunk-eval's answers, within .007; with 0, clapnq-dev loses .001."""

# --- rankings ---------------------------------------------------------------------------

DEPTH = 200
"""Entries per list: with 50, SciFact loses .004 nDCG@10, and more in a larger library."""
NEAREST_WINDOWS = 320
"""Windows asked of the index. Of a passage's two or three windows mostly one is near, so these are
about `DEPTH` passages; each further hundred costs a millisecond."""
LIGHT_SHARE = 0.5
"""Weight of the light vectors against BM25: .3 and .7 lose .012 and .013 nDCG@10 on average of six sets,
with min-max fusion; .6 wins .012 on ADI and loses .001 on nq-utd after feedback."""
FEEDBACK_PASSAGES = 2
"""With three and weight .4, the design's start, deep feedback falls below the hybrid ranking on SciFact;
with one, light feedback falls below it by up to .004."""
LIGHT_FEEDBACK = 0.2
"""Weight of feedback in the light space: .4 loses .005 on 2wiki; with .15 a partly deep ADI falls below
one without a deep layer by up to .011."""
DEEP_FEEDBACK = 0.25
"""Weight of feedback in the deep space: with .4, SciFact falls below the hybrid ranking."""
DIRECT_SHARE = 1 / 3
"""Weight of the deep embedder's own ranking, where it reads questions. With deep feedback after it
.790 on average of six sets, feedback alone .785, though on chunk-eval it loses .007. Before the last
change of fusion, .25 lost .006 on average of ADI, nq-utd and SciFact."""
FEWEST_IN_BOTH = 5
"""Passages with both similarities, before one scale can be told from the other. A judgement."""
COMMON_SHARE = 0.2
"""A word in more than this share of the passages tells nothing apart and is dropped … A judgement."""
COMMON_FLOOR = 20
"""… unless it is in no more than this many: in a small library shares mean little. A judgement."""
QUESTION_TERMS = 64
"""Words of a question that are looked up; the longest question of six sets has 23."""

# --- what reaches the prompt, and what is told of it ------------------------------------

WIDENED = 2
"""So many of the best passages are shown with their neighbours, where there is room. On chunk-eval two
more passages do more in the same room, but its answers stand in one place; more than two cost much."""
MATCH_SHARE = 0.6
"""A sentence is matched to a passage that holds this share of its words, rare words counting more.

Of the sentences of clapnq-dev's answers 97 % find their own passage among five, 2 % another; without
their own, 3.5 % find another. At .4 these are 5.8 %, at .8 fewer find their own.
"""
MATCH_WORDS = 3
"""Fewer words in common prove nothing. A judgement."""
PAIRS_HELD = 0.5
"""A passage that holds this share of a question's letter pairs is about it, in scripts without spaces.
Of 55 questions 78 % find it in their own passage, 5 % in another; at .3 it is 91 % and 9 %, at .6 60 %
and none."""
