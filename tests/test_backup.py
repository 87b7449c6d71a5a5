"""A backup brings everything back, is taken while the app works, and a bad one changes nothing."""

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from companion import __version__, cli
from companion.app import build
from companion.backup import restore as restoring
from companion.backup import take as taking
from companion.backup import workshop
from companion.backup.restore import restore
from companion.backup.take import take
from companion.config import REPOSITORY, Settings
from companion.domain import LOCAL_OWNER, Role, SessionConfig, ThinkingMode
from companion.errors import BackupUnusable, DiskFull, FolderLocked, InvalidInput, NotFound, StorageError
from companion.storage.store import Store
from tests.fakes import FakeEmbedder
from tests.test_migrations import A_ROW_OF_EVERYTHING, migrate_to
from tests.waiting import until

NOTES = {"bees.txt": b"Bees make honey.", "lava.md": b"# Lava\n\nIt flows.", "no ending": b"Plain words."}


def app_on(folder):
    return build(Settings(data_dir=folder, offline=True), engines=[], light=FakeEmbedder())


def settings_of(folder):
    return Settings(data_dir=folder, offline=True)


@pytest.fixture(scope="module")
def first_archive(tmp_path_factory):
    """A backup of an app with a little of everything in it."""
    folder = tmp_path_factory.mktemp("first")
    companion = app_on(folder / "data")
    try:
        for name, content in NOTES.items():
            companion.library.add(LOCAL_OWNER, name, content)
        companion.store.settings.save({"top_k": 7})
        config = SessionConfig("s", "m", ThinkingMode.RAG, 5, "a", "b", 600)
        companion.store.sessions.create(LOCAL_OWNER, "s", config, title="About bees")
        companion.store.sessions.add_message(LOCAL_OWNER, "s", Role.USER, "What do bees make?")
        take(companion.settings, folder / "kept.zip")
    finally:
        companion.close()
    return folder / "kept.zip"


@pytest.fixture
def archive(first_archive, tmp_path):
    path = tmp_path / "first.zip"
    shutil.copyfile(first_archive, path)
    return path


@pytest.fixture
def companion(first_archive, tmp_path):
    """An app with what was backed up."""
    restore(first_archive, settings_of(tmp_path / "data"))
    companion = app_on(tmp_path / "data")
    yield companion
    companion.close()


def content_of(folder):
    """What a person had there: documents with their originals and passages, and what was said."""
    companion = app_on(folder)
    try:
        library, sessions = companion.library, companion.store.sessions
        documents = {
            document.name: (
                library.original(LOCAL_OWNER, document.doc_id).read_bytes(),
                [passage.text for passage in library.passages(LOCAL_OWNER, document.doc_id)],
            )
            for document in companion.store.documents.list(LOCAL_OWNER)
        }
        said = {
            session.title: [message.content for message in sessions.messages(LOCAL_OWNER, session.session_id)]
            for session in sessions.list(LOCAL_OWNER)
        }
        return documents, said
    finally:
        companion.close()


def test_what_was_backed_up_comes_back(companion, archive, tmp_path):
    restored = restore(archive, settings_of(tmp_path / "new" / "data"))
    assert (restored.documents, restored.conversations, restored.set_aside) == (3, 1, None)
    documents, said = content_of(tmp_path / "new" / "data")
    assert {name: original for name, (original, _) in documents.items()} == NOTES
    assert documents["bees.txt"][1] == ["Bees make honey."]
    assert said == {"About bees": ["What do bees make?"]}


def test_what_was_restored_is_searched_and_its_settings_hold(archive, tmp_path):
    restore(archive, settings_of(tmp_path / "new"))
    companion = app_on(tmp_path / "new")
    try:
        assert companion.store.settings.load()["top_k"] == 7
        companion.library.open_index()
        assert companion.library.search(LOCAL_OWNER, "honey").hits[0].document_name == "bees.txt"
        assert not companion.store.documents.unfinished()
    finally:
        companion.close()


def test_a_backup_vouches_for_each_file(archive):
    with zipfile.ZipFile(archive) as file:
        manifest = json.loads(file.read("manifest.json"))
        names = set(file.namelist()) - {"manifest.json"}
        assert manifest["files"].keys() == names
        for name in names:
            content = file.read(name)
            assert manifest["files"][name] == {
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
    assert (manifest["format"], manifest["app"]) == (1, __version__)


def test_a_backup_holds_neither_index_nor_log(companion, tmp_path):
    companion.library.open_index()
    (companion.settings.data_dir / "companion.log").write_text("a line")
    take(companion.settings, tmp_path / "kept.zip")
    with zipfile.ZipFile(tmp_path / "kept.zip") as file:
        tops = {name.partition("/")[0] for name in file.namelist()}
    assert tops == {"manifest.json", "companion.db", "originals"}


def test_nobody_else_of_the_machine_can_read_a_backup_or_what_is_restored(first_archive, tmp_path):
    restore(first_archive, settings_of(tmp_path / "new"))
    paths = [first_archive, tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_nothing_but_the_backup_is_left_beside_it_or_in_the_data_folder(companion, tmp_path):
    before = sorted(companion.settings.data_dir.rglob("*"))
    beside = set(tmp_path.iterdir())
    take(companion.settings, tmp_path / "kept.zip")
    assert set(tmp_path.iterdir()) - beside == {tmp_path / "kept.zip"}
    assert sorted(companion.settings.data_dir.rglob("*")) == before


def test_a_text_that_was_purged_is_in_no_later_backup(companion, tmp_path):
    document = companion.library.add(LOCAL_OWNER, "secret.txt", b"The word is qvxkmzt.")
    companion.library.delete(LOCAL_OWNER, document.doc_id)
    companion.library._now = lambda: document.created_at.replace(year=document.created_at.year + 1)
    assert companion.library.purge_due() == 1
    take(companion.settings, tmp_path / "kept.zip")
    with zipfile.ZipFile(tmp_path / "kept.zip") as file:
        assert not any(b"qvxkmzt" in file.read(name) for name in file.namelist())


# --- while the app works ----------------------------------------------------------------


def test_a_backup_under_load_is_one_state_with_all_its_originals(companion, tmp_path):
    """Each document's text is its name and version: a restored one must agree with its original."""
    library, end, failures, written = companion.library, threading.Event(), [], [0] * 3

    def work(number):
        try:
            while not end.is_set():
                written[number] = version = written[number] + 1
                name = f"{number}.txt"
                document = library.add(LOCAL_OWNER, name, f"Version {version} of {name}.".encode())
                if version % 5 == 0:
                    library.delete(LOCAL_OWNER, document.doc_id)
                    gone = companion.store.documents.get_any(document.doc_id)
                    library._purge(gone, datetime.now(UTC) + timedelta(days=1))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(6):
            taken = take(companion.settings, tmp_path / f"{number}.zip")
            assert taken.lost == ()
            before = list(written)
            until(lambda before=before: failures or all(map(int.__gt__, written, before)))
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert failures == []
    states = set()
    for number in range(6):
        folder = tmp_path / f"new{number}"
        restore(tmp_path / f"{number}.zip", settings_of(folder))
        documents, _ = content_of(folder)
        assert {name: original for name, (original, _) in documents.items() if name in NOTES} == NOTES
        for name, (original, passages) in documents.items():
            assert original.endswith(f" of {name}.".encode()) or name in NOTES
            assert passages in ([], [original.decode()]) or b"Version" in original or name in NOTES
        states.add(tuple(sorted(original for original, _ in documents.values())))
    assert len(states) > 1


def test_a_document_replaced_between_two_steps_is_backed_up_as_it_is_then(companion, tmp_path, monkeypatch):
    """The race made certain: after the first look, each name that was found is out of date."""
    keep, changed = taking._keep, []

    def changing(files, originals, kept):
        if len(changed) < 4:
            changed.append(
                companion.library.add(LOCAL_OWNER, "bees.txt", b"Bees, version %d." % len(changed))
            )
        return keep(files, originals, kept)

    monkeypatch.setattr(taking, "_keep", changing)
    assert take(companion.settings, tmp_path / "kept.zip").lost == ()
    restore(tmp_path / "kept.zip", settings_of(tmp_path / "new"))
    documents, _ = content_of(tmp_path / "new")
    assert documents["bees.txt"] == (b"Bees, version 3.", ["Bees, version 3."])
    with zipfile.ZipFile(tmp_path / "kept.zip") as file:
        assert len(file.namelist()) == 2 + len(NOTES)


def test_originals_on_another_disk_are_copied(companion, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert take(companion.settings, tmp_path / "kept.zip").lost == ()
    restore(tmp_path / "kept.zip", settings_of(tmp_path / "new"))
    assert {name: original for name, (original, _) in content_of(tmp_path / "new")[0].items()} == NOTES


def test_a_lost_original_is_said_and_the_rest_is_kept(companion, tmp_path):
    documents = {document.name: document for document in companion.store.documents.list(LOCAL_OWNER)}
    companion.library.original(LOCAL_OWNER, documents["bees.txt"].doc_id).unlink()
    companion.library.original(LOCAL_OWNER, documents["lava.md"].doc_id).write_bytes(b"# Lava\n\nIt flew.")
    assert take(companion.settings, tmp_path / "kept.zip").lost == ("bees.txt", "lava.md")
    assert restore(tmp_path / "kept.zip", settings_of(tmp_path / "new")).documents == 3


def test_the_commands_work_beside_the_running_app(companion, tmp_path, capsys):
    data, new = str(companion.settings.data_dir), str(tmp_path / "new")
    file = str(tmp_path / "kept.zip")
    assert cli.main(["backup", file, "--data-dir", data]) == 0
    assert "holds 3 documents and 1 conversations (" in capsys.readouterr().out
    assert cli.main(["restore", file, "--data-dir", new]) == 0
    assert f"{new} holds 3 documents and 1 conversations of 20" in capsys.readouterr().out
    assert cli.main(["restore", file, "--data-dir", data, "--replace"]) == 2
    assert "Another copy of LLM Companion uses" in capsys.readouterr().err


def test_a_backup_in_a_process_of_its_own_disturbs_nobody(companion, tmp_path):
    said = 0
    command = [sys.executable, "-m", "companion", "backup", str(tmp_path / "kept.zip")]
    command += ["--data-dir", str(companion.settings.data_dir)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as backup:
        while backup.poll() is None:
            companion.store.sessions.add_message(LOCAL_OWNER, "s", Role.USER, f"Message {said}")
            said += 1
        assert backup.returncode == 0
    restore(tmp_path / "kept.zip", settings_of(tmp_path / "new"))
    messages = content_of(tmp_path / "new")[1]["About bees"]
    assert messages == ["What do bees make?", *(f"Message {n}" for n in range(len(messages) - 1))]
    assert 1 <= len(messages) <= said + 1


# --- where it may not be written --------------------------------------------------------


def test_a_backup_replaces_an_earlier_backup_and_nothing_else(companion, archive, tmp_path):
    companion.library.add(LOCAL_OWNER, "more.txt", b"More.")
    assert take(companion.settings, archive).documents == 4
    letter = tmp_path / "letter.pdf"
    letter.write_bytes(b"%PDF a letter")
    with pytest.raises(InvalidInput, match="is no backup"):
        take(companion.settings, letter)
    assert letter.read_bytes() == b"%PDF a letter"


@pytest.mark.parametrize("place", ["data/kept.zip", "data/originals/kept.zip", ".", "nowhere/kept.zip"])
def test_a_place_that_cannot_hold_a_backup_is_refused(companion, tmp_path, place):
    with pytest.raises(InvalidInput):
        take(companion.settings, tmp_path / place)


def test_without_a_database_there_is_nothing_to_back_up(tmp_path):
    with pytest.raises(NotFound, match="nothing to back up"):
        take(settings_of(tmp_path / "data"), tmp_path / "kept.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_earlier_backup_and_nothing_else(companion, archive, tmp_path, monkeypatch):
    before, beside = archive.read_bytes(), set(tmp_path.iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(taking.os, "fsync", full)
    with pytest.raises(DiskFull, match="no room for the backup"):
        take(companion.settings, archive)
    assert archive.read_bytes() == before
    assert set(tmp_path.iterdir()) == beside


class Killed(BaseException):
    """A kill as far as files go: nothing is tidied."""


def left_by_a_kill(monkeypatch, work, place, name, *, after=False):
    """Leaves what `work` leaves when it is killed before or after the step `place.name`."""
    usual = getattr(place, name)

    def die(*arguments, **more):
        if after:
            usual(*arguments, **more)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(place, name, die)
        patch.setattr(workshop.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            work()


def test_what_a_killed_backup_left_goes_with_the_next_one_of_that_name(companion, tmp_path, monkeypatch):
    beside, kept = set(tmp_path.iterdir()), tmp_path / "kept.zip"
    left_by_a_kill(monkeypatch, lambda: take(companion.settings, kept), taking, "writing")
    [left] = set(tmp_path.iterdir()) - beside
    assert (left / "companion.db").exists()
    take(companion.settings, tmp_path / "other.zip")
    assert left.exists()
    take(companion.settings, kept)
    assert set(tmp_path.iterdir()) - beside == {kept, tmp_path / "other.zip"}


def test_what_a_killed_restore_left_goes_with_the_next_one(archive, tmp_path, monkeypatch):
    beside = set(tmp_path.iterdir())
    new = settings_of(tmp_path / "new")
    left_by_a_kill(monkeypatch, lambda: restore(archive, new), restoring, "_put_in_place")
    assert set(tmp_path.iterdir()) - beside
    restore(archive, new)
    assert set(tmp_path.iterdir()) - beside == {new.data_dir}
    assert len(content_of(new.data_dir)[0]) == 3


STEPS = [
    (restoring, "_unpack"), (restoring, "flush_all"), (Path, "rename"), (restoring, "exchange"),
    (Path, "unlink"), (restoring, "flush"),
]  # fmt: skip


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("place", "name"), STEPS, ids=[name for _place, name in STEPS])
def test_a_folder_is_the_old_or_the_new_one_wherever_a_restore_is_killed(
    archive, tmp_path, monkeypatch, place, name, after
):
    folder = tmp_path / "data"
    other = app_on(folder)
    other.library.add(LOCAL_OWNER, "other.txt", b"Other.")
    other.close()

    def again():
        return restore(archive, settings_of(folder), replace=True)

    left_by_a_kill(monkeypatch, again, place, name, after=after)
    assert content_of(folder)[0].keys() in ({"other.txt"}, NOTES.keys())
    again()
    assert content_of(folder)[0].keys() == NOTES.keys()
    aside = [content_of(path)[0].keys() for path in tmp_path.glob("data.before-*")]
    assert {"other.txt"} in aside
    assert not list(tmp_path.glob(".*"))


def test_a_system_that_cannot_exchange_folders_renames_them(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(restoring, "exchange", lambda _first, _second: False)
    folder = tmp_path / "data"
    app_on(folder).close()
    restored = restore(archive, settings_of(folder), replace=True)
    assert content_of(folder)[0].keys() == NOTES.keys()
    assert content_of(restored.set_aside)[0] == {}


def test_a_backup_at_work_is_not_taken_for_one_that_was_killed(companion, tmp_path, monkeypatch):
    kept, gather, meanwhile = tmp_path / "kept.zip", taking._gather, []

    def and_another(settings, folder):
        monkeypatch.setattr(taking, "_gather", gather)
        meanwhile.append(take(settings, kept))
        return gather(settings, folder)

    monkeypatch.setattr(taking, "_gather", and_another)
    assert [take(companion.settings, kept).documents, meanwhile[0].documents] == [3, 3]
    assert not list(tmp_path.glob(".*"))


def test_a_disk_without_locks_takes_backups(companion, tmp_path, monkeypatch):
    def without_locks(_folder):
        raise StorageError("This disk has no locks.")

    monkeypatch.setattr(workshop, "lock_folder", without_locks)
    assert take(companion.settings, tmp_path / "kept.zip").documents == 3
    assert not list(tmp_path.glob(".*"))


# --- what may not be restored -----------------------------------------------------------


def rewritten(archive, target, change, *, keep_manifest=False):
    """A backup with other entries: `change` gets name to bytes and may alter them."""
    with zipfile.ZipFile(archive) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    manifest = json.loads(entries.pop("manifest.json"))
    change(entries, manifest)
    if not keep_manifest:
        manifest["files"] = {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in entries.items()
        }
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
        file.writestr("manifest.json", json.dumps(manifest))
    return target


def refused(archive, folder, match=None):
    """The sentence; and nothing is there that was not before."""
    parent = folder.parent
    before = sorted(parent.rglob("*"))
    with pytest.raises((BackupUnusable, DiskFull), match=match) as refusal:
        restore(archive, settings_of(folder))
    assert sorted(parent.rglob("*")) == before
    assert refusal.value.message.endswith(".")
    assert "\n" not in refusal.value.message
    return refusal.value.message


OUTSIDE = [
    "../evil.txt",
    "/tmp/evil.txt",
    "originals/../../evil.txt",
    "originals/../companion.db",
    "originals/deep/er.txt",
    "originals/..",
    "originals/.hidden",
    "originals\\evil.txt",
    "originals/" + "x" * 300,
    "index/0001/chroma.sqlite3",
    "companion.db-wal",
    "originals/",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_that_does_not_belong_in_a_backup_is_refused(archive, tmp_path, name):
    bad = rewritten(archive, tmp_path / "bad.zip", lambda entries, _: entries.update({name: b"evil"}))
    refused(bad, tmp_path / "new", "does not belong there")


def test_a_link_in_a_backup_is_refused(archive, tmp_path):
    bad = rewritten(archive, tmp_path / "bad.zip", lambda *_: None)
    info = zipfile.ZipInfo("originals/link.txt")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(bad, "a") as file:
        file.writestr(info, "/etc/passwd")
    refused(bad, tmp_path / "new", "does not belong there")


def change_text(entries, _):
    name = next(name for name in entries if name.endswith(".txt"))
    entries[name] = entries[name].replace(b"honey", b"money")


def drop_text(entries, _):
    del entries[next(name for name in entries if name.endswith(".txt"))]


def drop_database(entries, _):
    del entries["companion.db"]


def promise_more(_, manifest):
    manifest["files"]["companion.db"]["size"] += 1


def promise_less(_, manifest):
    manifest["files"]["companion.db"]["size"] -= 1


def negative(_, manifest):
    manifest["files"]["companion.db"]["size"] = -1


def nonsense(_, manifest):
    manifest["files"] = ["companion.db"]


def no_format(_, manifest):
    manifest["format"] = "1"


def no_time(_, manifest):
    manifest["created_at"] = "\x1b[2J"


@pytest.mark.parametrize(
    "change",
    [
        change_text,
        drop_text,
        drop_database,
        promise_more,
        promise_less,
        negative,
        nonsense,
        no_format,
        no_time,
    ],
    ids=lambda change: change.__name__,
)
def test_a_backup_that_is_not_what_it_lists_is_refused(archive, tmp_path, change):
    bad = rewritten(archive, tmp_path / "bad.zip", change, keep_manifest=True)
    refused(bad, tmp_path / "new", "take another backup")


def test_a_bomb_is_cut_off_at_its_promised_size(archive, tmp_path):
    def blow_up(entries, _):
        entries["companion.db"] = b"\0" * 300_000_000

    bad = rewritten(archive, tmp_path / "bad.zip", blow_up, keep_manifest=True)
    assert bad.stat().st_size < 2_000_000
    refused(bad, tmp_path / "new", "take another backup")


def test_a_backup_larger_than_the_disk_is_not_begun(archive, tmp_path):
    def promise(_, manifest):
        manifest["files"]["companion.db"]["size"] = 10**18

    bad = rewritten(archive, tmp_path / "bad.zip", promise, keep_manifest=True)
    refused(bad, tmp_path / "new", "has only")


def newer_format(_, manifest):
    manifest["format"] = 2
    manifest["files"] = {"something": "else"}


def newer_revision(_, manifest):
    manifest["revision"] = "9999"


@pytest.mark.parametrize("change", [newer_format, newer_revision], ids=lambda change: change.__name__)
def test_a_backup_of_a_newer_version_is_refused(archive, tmp_path, change):
    bad = rewritten(archive, tmp_path / "bad.zip", change, keep_manifest=True)
    refused(bad, tmp_path / "new", "newer version")


def test_a_backup_cut_short_anywhere_is_refused(archive, tmp_path):
    whole = archive.read_bytes()
    bad = tmp_path / "bad.zip"
    for length in range(0, len(whole), len(whole) // 12):
        bad.write_bytes(whole[:length])
        refused(bad, tmp_path / "new", "no backup of LLM Companion")


def test_a_backup_with_a_flipped_byte_is_refused_or_whole(archive, tmp_path):
    whole, bad = archive.read_bytes(), tmp_path / "bad.zip"
    for place in range(50, len(whole), len(whole) // 25):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        folder = tmp_path / f"new{place}"
        try:
            restore(bad, settings_of(folder))
        except StorageError:
            assert not folder.exists()
        else:
            assert {name: text for name, (text, _) in content_of(folder)[0].items()} == NOTES


def test_a_database_that_is_none_is_refused(archive, tmp_path):
    def damage(entries, _):
        entries["companion.db"] = b"SQLite format 3\0" + b"\xff" * 5000

    bad = rewritten(archive, tmp_path / "bad.zip", damage)
    refused(bad, tmp_path / "new", "damaged")


# --- where it may not be put ------------------------------------------------------------


def test_a_folder_in_use_is_left_alone(companion, archive):
    for replace in (False, True):
        with pytest.raises(FolderLocked):
            restore(archive, companion.settings, replace=replace)
    assert len(companion.store.documents.list(LOCAL_OWNER)) == 3


def test_a_folder_with_something_in_it_is_set_aside_only_when_told(archive, tmp_path):
    folder = tmp_path / "old"
    other = app_on(folder)
    other.library.add(LOCAL_OWNER, "other.txt", b"Other.")
    other.close()
    with pytest.raises(InvalidInput, match="is not empty"):
        restore(archive, settings_of(folder))
    assert content_of(folder)[0].keys() == {"other.txt"}
    restored = restore(archive, settings_of(folder), replace=True)
    assert content_of(folder)[0].keys() == NOTES.keys()
    assert restored.set_aside.parent == tmp_path
    assert content_of(restored.set_aside)[0].keys() == {"other.txt"}


def test_an_empty_folder_is_taken(archive, tmp_path):
    (tmp_path / "new").mkdir()
    restore(archive, settings_of(tmp_path / "new"))
    assert content_of(tmp_path / "new")[0].keys() == NOTES.keys()


def test_a_folder_that_fills_up_meanwhile_is_left_alone(archive, tmp_path, monkeypatch):
    folder = tmp_path / "new"
    unpack = restoring._unpack

    def and_meanwhile(backup, fresh):
        folder.mkdir()
        (folder / "mine.txt").write_text("mine")
        return unpack(backup, fresh)

    monkeypatch.setattr(restoring, "_unpack", and_meanwhile)
    with pytest.raises(StorageError, match="could not be restored"):
        restore(archive, settings_of(folder))
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_a_file_that_is_not_there_is_said(tmp_path, capsys):
    arguments = ["restore", str(tmp_path / "none.zip"), "--data-dir", str(tmp_path / "new")]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == f"There is no backup at {tmp_path / 'none.zip'}.\n"


# --- versions ---------------------------------------------------------------------------


def test_an_old_database_is_backed_up_as_it_is_and_brought_up_to_date_at_the_next_start(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    migrate_to(folder / "companion.db", "0001")
    with sqlite3.connect(folder / "companion.db") as connection:
        connection.executescript(A_ROW_OF_EVERYTHING)
    connection.close()
    taken = take(settings_of(folder), tmp_path / "kept.zip")
    assert (taken.documents, taken.conversations) == (1, 1)
    restore(tmp_path / "kept.zip", settings_of(tmp_path / "new"))
    store = Store.open(tmp_path / "new" / "companion.db")
    try:
        assert [passage.text for passage in store.passages.of_anybody("d")] == ["an old zebra"]
        assert store.sessions.messages(LOCAL_OWNER, "s")[0].content == "hello"
    finally:
        store.close()


def test_a_newer_database_is_not_backed_up(tmp_path):
    folder = tmp_path / "data"
    Store.open(folder / "companion.db").close()
    with sqlite3.connect(folder / "companion.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StorageError, match="newer version"):
        take(settings_of(folder), tmp_path / "kept.zip")
    assert not (tmp_path / "kept.zip").exists()
