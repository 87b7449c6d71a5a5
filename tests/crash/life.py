"""One life of the core: start, check that nothing acknowledged was lost, then work until killed.

`python -m tests.crash.life FOLDER SEED` prints `answers SECONDS`, `whole SECONDS` and `fault …`.
Real SQLite, Chroma and reading child; engines, embedders and the load of the machine are fakes.
"""

import asyncio
import os
import random
import re
import signal
import sys
import threading
import time
from pathlib import Path

from companion.app import build
from companion.config import Settings
from companion.domain import LOCAL_OWNER, DocumentState
from companion.errors import CompanionError, NotFound
from companion.library import vectors
from companion.library.vectors import collection_name, vector_id
from tests.crash import oracle
from tests.crash.torn import open_eagerly
from tests.fakes import MODEL, FakeDeep, FakeEmbedder, FakeLoad, ScriptedEngine, done

ME = LOCAL_OWNER
LIGHT = ("bag-of-words", "other-bag")
DEEP = ("deep-bag", "deeper-bag")
MOST_DOCUMENTS = 40
HEALED_S = 60.0
UNTIL_S = 60.0
FOUND = 12


class Talker(ScriptedEngine):
    """Says something else each time, word by word."""

    def __init__(self):
        super().__init__(models=[MODEL])
        self.said = 0

    async def stream(self, request):
        self.said += 1
        self.scripts = [[f"Answer {self.said} ", 0.005, "came ", 0.005, "word by word.", done()]]
        async for piece in super().stream(request):
            yield piece


class Life:
    def __init__(self, folder, seed):
        self.begun = time.monotonic()
        self.random = random.Random(seed)
        self.seed = seed
        self.told = oracle.read(folder / "oracle")
        self.oracle = oracle.Oracle(folder / "oracle")
        self.ending = threading.Event()
        vectors.open_collection = open_eagerly
        # The light embedder changes now and then, and so does its layer.
        self.light = FakeEmbedder(LIGHT[seed % 7 == 0])
        self.deep = {name: FakeDeep(name) for name in DEEP}
        settings = Settings(data_dir=folder / "data", offline=True, min_free_mb=1, embed_deep=DEEP[0])
        self.companion = build(
            settings,
            engines=[Talker()],
            light=self.light,
            deep=lambda name, may_fetch: self.deep[name],
            reader=FakeLoad(),
        )
        self.library = self.companion.library

    def run(self):
        self.companion.start()
        self.answer_something()
        say("answers", f"{time.monotonic() - self.begun:.2f}")
        self.heal()
        say("whole", f"{time.monotonic() - self.begun:.2f}")
        fault = self.fault()
        if fault:
            say("fault", fault)
            os._exit(1)
        say("checked", str(self.told.facts))
        actors = [threading.Thread(target=self.act, args=(act,), daemon=True) for act in self.actions()]
        for actor in actors:
            actor.start()
        while not self.ending.is_set():
            self.ending.wait(0.02)
        self.companion.close()
        os._exit(0)

    # --- what must hold -------------------------------------------------------------------

    def answer_something(self):
        """The library answers from the first moment, whatever the index is."""
        known = [doc for doc in self.told.documents if doc in self.told.readable and self.stands(doc)]
        for doc in known[-5:]:
            texts = self.told.documents[doc]
            if not self.finds(doc, texts):
                say("fault", f"the start does not find {texts}")
                os._exit(1)
        self.library.search(ME, "words of the sample library")

    def heal(self):
        ends = time.monotonic() + HEALED_S
        while not self.whole():
            if time.monotonic() > ends:
                say("fault", f"not whole after {HEALED_S:.0f} s: {self.companion.health()}")
                os._exit(1)
            time.sleep(0.02)

    def whole(self):
        library, layers = self.library, self.library.layers
        return (
            self.companion.health().state == "ready"
            and library.status(ME).index == "ready"
            and not self.companion.store.documents.unfinished()
            and all(layer.serving for layer in layers._all())
        )

    def fault(self):
        checks = (
            self.lost_document,
            self.shown_deleted,
            self.lost_word,
            self.lost_setting,
            self.lasting_disagreement,
        )
        return next((found for check in checks if (found := check())), None)

    def stands(self, doc):
        return doc not in self.told.deleted and doc not in self.told.unsure

    def lost_document(self):
        for doc, texts in self.told.documents.items():
            if not self.stands(doc):
                continue
            try:
                document = self.library.document(ME, doc)
            except NotFound:
                return f"the document {texts} is lost"
            if document.state not in (DocumentState.SEARCHABLE, DocumentState.DEEP):
                return f"{texts} is {document.state}: {document.error}"
            if not self.library.original(ME, doc).exists():
                return f"the original of {texts} is lost"
            if not self.finds(doc, texts):
                return f"{texts} is not found"
        return None

    def finds(self, doc, texts):
        """By exactly one of the texts that it may have: a change happened or did not."""
        stored = " ".join(passage.text for passage in self.library.passages(ME, doc))
        words = {word for word in map(canary, texts) if word in stored}
        if len(words) != 1:
            return False
        hits = self.library.search(ME, f"What of {words.pop()}?", FOUND).hits
        return any(hit.passage.doc_id == doc for hit in hits)

    def shown_deleted(self):
        listed = {document.doc_id for document in self.library.documents(ME)}
        for doc in self.told.deleted - self.told.unsure:
            if doc in listed:
                return f"{doc} was deleted and is listed"
        for text in self.told.gone_texts | set().union(
            *(self.told.documents[doc] for doc in self.told.deleted - self.told.unsure)
        ):
            hits = self.library.search(ME, canary(text), FOUND).hits
            if any(canary(text) in hit.passage.text for hit in hits):
                return f"{text} was deleted and is found"
        return None

    def lost_word(self):
        sessions = self.companion.store.sessions
        said: dict[str, list[str]] = {}
        for session, text in self.told.questions + self.told.answers:
            if session not in said:
                said[session] = [message.content for message in sessions.messages(ME, session)]
            if text not in said[session]:
                return f"the words “{text}” are lost"
        for session, titles in self.told.titles.items():
            if not titles & {sessions.get(ME, session).title, oracle.UNKNOWN}:
                return f"a title of {titles} is {sessions.get(ME, session).title}"
        return None

    def lost_setting(self):
        kept = self.companion.sessions.preferences()
        for name, values in self.told.settings.items():
            if not values & {getattr(kept, name), oracle.UNKNOWN}:
                return f"{name} is {getattr(kept, name)}, not of {values}"
        return None

    def lasting_disagreement(self):
        """A layer that was left is made whole after those in force, and what is embedded comes in batches."""
        ends = time.monotonic() + HEALED_S
        while (found := self.disagreement()) and time.monotonic() < ends:
            time.sleep(0.05)
        return found

    def disagreement(self):
        """Index and database, id by id, and no collection that belongs to nobody."""
        store, index = self.companion.store, self.library._index
        owners = store.documents.owners()
        known = set()
        for embedder_id in {*store.embeddings.embedders(), self.light.identity.embedder_id}:
            for owner in owners:
                collection = collection_name(embedder_id, owner)
                known.add(collection)
                stored = {vector_id(*key) for key in store.embeddings.keys(embedder_id, owner)}
                held = index.ids(collection)
                if stored != held:
                    return f"{len(stored - held)} ids miss in the index, {len(held - stored)} are too many"
        # A deep layer is made empty before its first vector.
        known |= {
            collection_name(deep.identity.embedder_id, o) for deep in self.deep.values() for o in owners
        }
        strays = set(index.collections()) - known
        return f"collections of nobody: {strays}" if strays else None

    # --- what is done ---------------------------------------------------------------------

    def actions(self):
        return (self.upload_change_delete, self.chat, self.deepen_and_switch)

    def act(self, act):
        while not self.ending.is_set():
            try:
                act()
            except CompanionError as error:
                if not self.ending.is_set():
                    say("fault", f"{act.__name__}: {type(error).__name__}: {error.message}")
                    os._exit(1)

    def upload_change_delete(self):
        standing = [doc for doc in self.told.documents if self.stands(doc)]
        roll = self.random.random()
        if not standing or (roll < 0.5 and len(standing) < MOST_DOCUMENTS):
            self.upload()
        elif roll < 0.75:
            self.change(self.random.choice(standing))
        else:
            self.delete(self.random.choice(standing))

    def text(self):
        """(first line with a word of its own, the whole file)"""
        word = f"canary{self.random.getrandbits(48):012x}"
        parts = [
            f"# Part {n}\n\n" + f"Of {word} and of topic{self.random.randrange(999)} is said {n}. " * 30
            for n in range(self.random.randint(1, 6))
        ]
        return word, "\n\n".join(parts).encode()

    def upload(self):
        word, content = self.text()
        document = self.library.accept(ME, f"{word}.md", content)
        # Acknowledged: from here on it must come, also if the rest is done by another life.
        self.note("uploaded", doc=document.doc_id, text=word)
        self.library.ingest(document.doc_id)
        self.note("readable", doc=document.doc_id)

    def change(self, doc):
        word, content = self.text()
        self.note("changing", doc=doc, text=word)
        self.library.replace(ME, doc, f"{word}.md", content)
        self.library.ingest(doc)
        self.note("changed", doc=doc, text=word)

    def delete(self, doc):
        self.note("deleting", doc=doc)
        self.library.delete(ME, doc)
        self.note("deleted", doc=doc)
        if self.random.random() < 0.3:
            self.note("undoing", doc=doc)
            self.library.undo(ME, doc)
            self.note("undone", doc=doc)

    def chat(self):
        sessions = self.companion.sessions
        mine = sessions.list(ME, limit=3)
        session = (
            self.random.choice(mine).session_id
            if mine and self.random.random() < 0.9
            else asyncio.run(sessions.create(ME)).session_id
        )
        text = f"What of number {self.random.getrandbits(40)}?"
        run = self.companion.runs.start(ME, session, text)
        self.note("asked", session=session, text=text)
        run.wait(UNTIL_S)
        if run.answer is not None:
            self.note("answered", session=session, text=run.answer.content)
        if self.random.random() < 0.2:
            title = f"Title {self.random.getrandbits(40)}"
            self.note("renaming", session=session, title=title)
            sessions.rename(ME, session, title)
            self.note("renamed", session=session, title=title)

    def deepen_and_switch(self):
        if self.random.random() < 0.15:
            name = self.random.choice(DEEP)
            self.note("setting", name="embed_deep", value=name)
            asyncio.run(self.companion.sessions.update_preferences({"embed_deep": name}))
            self.note("set", name="embed_deep", value=name)
        self.companion.work.deepening.press("start")
        self.ending.wait(self.random.uniform(0.05, 0.5))

    def note(self, kind, **fact):
        self.oracle.note(kind, **fact)
        oracle._add(self.told, {"kind": kind, **fact})


def canary(text):
    found = re.search(r"canary[0-9a-f]{12}", text)
    assert found, text
    return found[0]


def say(kind, what):
    sys.stdout.write(f"{kind} {what}\n")
    sys.stdout.flush()


def main():
    life = Life(Path(sys.argv[1]), int(sys.argv[2]))
    signal.signal(signal.SIGTERM, lambda *_: life.ending.set())
    life.run()


if __name__ == "__main__":
    main()
