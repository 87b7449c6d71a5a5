"""Files become text with places, and no file can hurt the program."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import psutil
import pytest
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, StreamObject

from companion.domain import Reading
from companion.errors import (
    Conflict,
    DocumentError,
    DocumentTooLarge,
    EmptyDocument,
    EncryptedDocument,
    UnknownFormat,
    UnreadableDocument,
)
from companion.library.chunking import count_tokens, cut
from companion.library.readers import SUFFIXES, ReaderProcess, clean_name
from companion.library.readers.cleaning import clean_text
from tests.waiting import until

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = REPOSITORY.parent / "shared" / "documents"
needs_documents = pytest.mark.skipif(not DOCUMENTS.is_dir(), reason="the shared documents are not here")


@pytest.fixture(scope="module")
def reader():
    process = ReaderProcess()
    yield process
    process.close()


@pytest.fixture
def read(reader, tmp_path):
    """Reads a file with the given name and content."""

    def write_and_read(name: str, content: str | bytes) -> Reading:
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return reader.read(path, name)

    return write_and_read


def texts(reading: Reading) -> str:
    return "\n".join(section.text for section in reading.sections)


def outcome(reader: ReaderProcess, path: Path) -> tuple[Reading | None, str]:
    """What was read, or the sentence about why not."""
    try:
        return reader.read(path, path.name), ""
    except DocumentError as error:
        return None, error.message


def flat(text: str) -> str:
    return " ".join(text.split())


def docx(document: str, **parts: str) -> bytes:
    """A Word file with this body, and further parts by name."""
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", f"<w:document {space}><w:body>{document}</w:body></w:document>")
        for name, xml in parts.items():
            archive.writestr(f"word/{name}.xml", f"<w:{name} {space}>{xml}</w:{name}>")
    return buffer.getvalue()


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


# --- known phrases of real files --------------------------------------------------------


@needs_documents
@pytest.mark.parametrize(
    ("file", "kind", "phrase", "place"),
    [
        ("tracemonkey.pdf", "pdf", "Trace-based Just-in-Time Type Specialization", {"page": 1}),
        ("tracemonkey.pdf", "pdf", "Figure 4", {"page": 3}),
        ("BESTBUY_2024Q2_10Q.pdf", "pdf", "BEST BUY CO., INC.", {"page": 1}),
        ("korean-text-with-tables.pdf", "pdf", "", {"page": 1}),
        ("wiki_duck.html", "html", "dabbling ducks", {}),
        ("wiki_duck.html", "html", "Duckling", {}),
        ("llm-docs/setup.md", "markdown", "pip install llm", {"heading": "Setup > Installation"}),
        ("llm-docs/setup.md", "markdown", "llm keys set openai", {}),
        ("1paul_graham.txt", "text", "What I Worked On", {}),
        ("film-utf8.srt", "transcript", "CE FILM RELATE DES ÉVÉNEMENTS", {}),
        (
            "youtube_dl.vtt",
            "transcript",
            "this will happen is I'm telling",
            {"start_s": 304.08, "end_s": 305.4},
        ),
        ("diamonds.csv", "csv", "carat: 0.23; cut: Ideal; color: E", {}),
        ("titanic.csv", "csv", "survived: 0; pclass: 3; sex: male; age: 22.0", {}),
        ("docx-tables.docx", "docx", "Header Col 1 | Header Col 2", {}),
        ("docx-tables.docx", "docx", "f; g&t", {}),
        ("markitdown-test.docx", "docx", "AutoGen", {}),
        ("test_notebook.ipynb", "notebook", 'print("markitdown")', {"heading": "Test Notebook"}),
        ("family-day.eml", "email", "our first annual family day", {}),
    ],
)
def test_a_known_phrase_is_found_at_its_place(reader, file, kind, phrase, place):
    reading = reader.read(DOCUMENTS / "good" / file, file)
    assert reading.source_type == kind
    found = [section for section in reading.sections if phrase in flat(section.text)]
    assert found, f"{phrase!r} is not in {file}"
    for part, value in place.items():
        assert value in [getattr(section.place, part) for section in found]


@needs_documents
def test_a_page_of_html_shows_headings_and_no_script(reader):
    reading = reader.read(DOCUMENTS / "good" / "wiki_duck.html", "duck.html")
    headings = [section.place.heading for section in reading.sections]
    assert "Duck > Relationship with humans > Hunting" in headings
    assert "function" not in texts(reading)


@needs_documents
def test_a_handbook_of_872_pages_keeps_its_chapters(reader):
    reading = reader.read(DOCUMENTS / "good" / "handbook-872p.docx", "handbook.docx")
    assert any(" > F. SECURITY AND PERSONAL SAFETY" in (s.place.heading or "") for s in reading.sections)


@needs_documents
def test_a_huge_table_is_read_whole(reader):
    reading = reader.read(DOCUMENTS / "good" / "diamonds.csv", "diamonds.csv")
    assert sum(section.text.count("\n") + 1 for section in reading.sections) == 53_940
    assert all(count_tokens(section.text) <= 500 for section in reading.sections)
    assert reading.sections[0].place.heading.startswith("rows 1–")
    assert reading.sections[-1].place.heading.endswith("–53940")


@needs_documents
def test_every_good_file_is_read_or_named_as_unknown(reader):
    later = {".xlsx", ".epub", ".odt", ".rtf"}
    for path in sorted((DOCUMENTS / "good").rglob("*.*")):
        if path.is_dir() or path.name == "DA-619p.pdf":
            continue
        if path.suffix in later:
            with pytest.raises(UnknownFormat, match=r"these can: PDF"):
                reader.read(path, path.name)
        else:
            assert cut(reader.read(path, path.name)), path.name


@needs_documents
def test_every_odd_file_ends_in_text_or_in_one_sentence_that_names_it(reader):
    files = sorted(path for path in (DOCUMENTS / "odd").iterdir() if path.is_file())
    assert len(files) > 50
    for path in files:
        reading, sentence = outcome(reader, path)
        if reading is None:
            assert sentence.startswith(clean_name(path.name))
            assert sentence.endswith(".")
            assert "\n" not in sentence
        else:
            assert cut(reading), path.name


@needs_documents
@pytest.mark.parametrize(
    ("file", "error", "sentence"),
    [
        ("r6-both-passwords.pdf", EncryptedDocument, "password"),
        ("protected_agile.docx", EncryptedDocument, "password"),
        ("bug53475-password-is-pass.docx", EncryptedDocument, "password"),
        ("fake-encrypted.eml", EncryptedDocument, "encrypted"),
        ("sample_with_rotation_mismatch.pdf", EmptyDocument, r"looks like a scan\. Run text recognition"),
        ("made-empty.pdf", EmptyDocument, "is empty"),
        ("empty.vtt", EmptyDocument, "is empty"),
        ("made-text-named.pdf", UnreadableDocument, "is named .pdf but is not a PDF"),
        ("testWORD_truncated.docx", UnreadableDocument, "damaged"),
        ("Pages-tree-refs.pdf", UnreadableDocument, "damaged"),
        ("random.bin", UnknownFormat, r"these can: PDF, Word"),
        ("quine.gz", UnknownFormat, r"these can"),
        ("testZipEncrypted.zip", UnknownFormat, r"these can"),
        ("file_failing.ppt", UnknownFormat, r"these can"),
        ("fake-encrypted.msg", UnknownFormat, r"these can"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(reader, file, error, sentence):
    with pytest.raises(error, match=sentence):
        reader.read(DOCUMENTS / "odd" / file, file)


@needs_documents
@pytest.mark.parametrize(
    ("file", "phrase"),
    [
        ("r6-owner-password.pdf", ""),
        ("layout-parser-paper-with-empty-pages.pdf", "LayoutParser"),
        ("fake-text-utf-16.txt", "This is a test document"),
        ("fake-text-utf-32.txt", "This is a test document"),
        ("umlauts-non-utf8.md", "äöüß"),
        ("windows-1252.srt", "ÉVÉNEMENTS"),
        ("windows-1251.xml", "Пражский аэропорт"),
        ("testArabicMisleadingCharset.html", "اللغة العربية"),
        ("bom-utf-16-le.srt", "About 2 months ago"),
        ("no-indexes.srt", "this woman's tirades"),
        ("invalid.vtt", "Caption text #7"),
        ("newlines.csv", "a: Once upon a time; b: 5; c: 6"),
        ("stanley-cups-utf-16.csv", "Maple Leafs"),
        ("made-nul-bytes.txt", "Shopping list milk bread"),
        ("made-bidi-zero-width.txt", "Invoice total: 00.999 EURpayable to Ánna. 👨‍👩‍👧"),
        ("testHTMLBadScript.html", "This is a test."),
    ],
)
def test_an_odd_file_is_read_all_the_same(reader, file, phrase):
    found = texts(reader.read(DOCUMENTS / "odd" / file, file))
    assert flat(phrase) in flat(found)
    assert "\x00" not in found


# --- formats, with files made here ------------------------------------------------------


BROKEN = "a page that cannot be read"


def pdf(pages: list[str], outline: dict[str, int] | None = None) -> bytes:
    """A PDF with one text for each page, lines at `\n`, and entries of an outline by page from 0."""
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    fonts = DictionaryObject(
        {NameObject("/Font"): DictionaryObject({NameObject("/F1"): writer._add_object(font)})}
    )
    for text in pages:
        page = writer.add_blank_page(600, 800)
        page[NameObject("/Resources")] = fonts
        stream = StreamObject()
        lines = " 0 -20 Td ".join(f"({line}) Tj" for line in text.split("\n"))
        stream.set_data(f"BT /F1 12 Tf 50 700 Td {lines} ET".encode())
        if text == BROKEN:
            stream[NameObject("/Filter")] = NameObject("/Nonsense")
        page[NameObject("/Contents")] = writer._add_object(stream)
    for title, number in (outline or {}).items():
        writer.add_outline_item(title=title, page_number=number)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_pages_of_a_pdf_carry_their_number_and_chapter(read):
    reading = read("a.pdf", pdf(["Preface", "An exam-\nple", "", "More"], {"One": 1, "Two": 3}))
    assert [(s.place.page, s.place.heading, s.text) for s in reading.sections] == [
        (1, None, "Preface"),
        (2, "One", "An example"),
        (4, "Two", "More"),
    ]
    assert reading.notes == ("Page 3 has no text.",)


def test_a_broken_page_is_left_out_and_named(read):
    reading = read("a.pdf", pdf(["first", BROKEN, "third"]))
    assert [section.place.page for section in reading.sections] == [1, 3]
    assert reading.notes == ("Page 2 could not be read and was left out.",)


def test_a_pdf_of_too_many_pages_is_read_as_far_as_allowed(read):
    reading = read("a.pdf", pdf(["page"] * 3002))
    assert len(reading.sections) == 3000
    assert reading.notes == ("Only the first 3000 of 3002 pages were read.",)


def test_markdown_is_cut_at_its_headings_and_code_stays_as_it_is(read):
    reading = read(
        "guide.md",
        "---\ntitle: Guide\n---\n# Setup\n\nIntro\n\nWindows\n-------\n\n"
        "```sh\n# no heading\n    indented\n```\n"
        "<!-- unseen\n# nor this -->\n## Linux ##\n\ndone",
    )
    assert [section.place.heading for section in reading.sections] == [
        None,
        "Setup",
        "Setup > Windows",
        "Setup > Linux",
    ]
    assert reading.sections[0].text == "title: Guide"
    assert "```sh\n# no heading\n    indented\n```" in reading.sections[2].text
    assert "unseen" not in texts(reading)


def test_html_leaves_out_what_a_page_does_not_show(read):
    reading = read(
        "page.html",
        "<title>Page</title><nav>menu</nav><h1>Top</h1><p>Shown &amp; <b>bold</b>.</p><!-- comment -->"
        "<p hidden>secret one</p><div style='display: none'>secret <p>two</p></div><script>var three</script>"
        "<h2>Table</h2><table><tr><th>Name</th><th>Price</th></tr><tr><td><p>Tea</p></td>"
        "<td><p>3</p></td></tr></table>"
        "<pre>a\n    b</pre><p>after</p>",
    )
    assert [section.place.heading for section in reading.sections] == ["Page", "Top", "Top > Table"]
    shown = texts(reading)
    assert "Shown & bold." in shown
    assert "Name | Price\nTea | 3" in shown
    assert "a\n    b" in shown
    for hidden in ("menu", "comment", "secret", "two", "three"):
        assert hidden not in shown


def test_word_keeps_headings_tables_and_footnotes_in_order(read):
    cell = "<w:tc>{}</w:tc>"
    inner = f"<w:tbl><w:tr>{cell.format(paragraph('in'))}{cell.format(paragraph('ner'))}</w:tr></w:tbl>"
    right = cell.format(inner + paragraph("right"))
    table = f"<w:tbl><w:tr>{cell.format(paragraph('left'))}{right}</w:tr></w:tbl>"
    deleted = (
        "<w:p><w:del><w:r><w:t>gone</w:t></w:r></w:del>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r></w:p>"
    )
    reading = read(
        "letter.docx",
        docx(
            paragraph("Chapter", "b1")
            + paragraph("before")
            + table
            + deleted
            + paragraph("Part", "b2")
            + paragraph("end"),
            styles='<w:style w:styleId="b1"><w:name w:val="heading 1"/></w:style>'
            '<w:style w:styleId="b2"><w:basedOn w:val="b3"/></w:style>'
            '<w:style w:styleId="b3"><w:name w:val="heading 2"/></w:style>',
            footnotes=paragraph("small print"),
        ),
    )
    assert [(section.place.heading, section.text) for section in reading.sections] == [
        ("Chapter", "Chapter\n\nbefore\n\nleft | in | ner right"),
        ("Chapter > Part", "Part\n\nend"),
        ("Footnotes", "Footnotes\n\nsmall print"),
    ]


def test_rolling_captions_are_said_once_and_speakers_are_named(read):
    reading = read(
        "talk.vtt",
        "WEBVTT\n\nNOTE not said\n\n1\n00:01.000 --> 00:03.000\n \nwelcome<00:01.5><c> all</c>\n\n"
        "00:03.000 --> 00:03.010\nwelcome all\n\n"
        "00:03.010 --> 00:05.000\nwelcome all\nto <i>this</i> talk\n\n"
        "01:00:06.000 --> 01:00:07.000\n<v Ann>Tea &amp; cake?\n",
    )
    assert [(s.place.start_s, s.place.end_s, s.text) for s in reading.sections] == [
        (1.0, 3.01, "welcome all"),
        (3.01, 5.0, "to this talk"),
        (3606.0, 3607.0, "Ann: Tea & cake?"),
    ]


def test_subtitles_keep_numbers_that_are_said(read):
    reading = read(
        "film.srt", "1\n00:00:01,000 --> 00:00:02,000\n42\n\n2\n00:00:03,000 --> 00:00:04,000\nYes.\n"
    )
    assert [section.text for section in reading.sections] == ["42", "Yes."]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.csv",
            "name;price\nTea, green;3,50\nCake;2",
            "name: Tea, green; price: 3,50\nname: Cake; price: 2",
        ),
        ("a.tsv", "name\tprice\nTea\t3\n", "name: Tea; price: 3"),
        ("a.csv", "1,2\n3,4\n", "1; 2\n3; 4"),
        ("a.csv", 'name,note\nTea,"hot\nand ""good"""\n', 'name: Tea; note: hot and "good"'),
        ("a.csv", "name\nTea\nCake\n", "name: Tea\nname: Cake"),
    ],
)
def test_a_row_of_a_table_says_what_its_values_are(read, name, content, expected):
    assert texts(read(name, content)) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_in_any_clothes_is_read_without_a_guess(read, encoding):
    reading = read("a.txt", "Grüße, 日本 and a good day to all of you".encode(encoding))
    assert texts(reading) == "Grüße, 日本 and a good day to all of you"
    assert reading.notes == ()


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "déjà vu à la crème brûlée, où êtes-vous"),
        ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy. Děkuji."),
        ("cp1251", "Привет, как дела? Всё хорошо, спасибо"),
        ("shift_jis", "日本語のテキストです。これは例です"),
    ],
)
def test_an_old_encoding_is_guessed_and_the_person_is_told(read, encoding, text):
    reading = read("a.txt", text.encode(encoding))
    assert texts(reading) == text
    assert "guessed" in reading.notes[0]


def test_utf8_with_a_damaged_letter_stays_utf8(read):
    reading = read("a.txt", ("Grüße und schöne Straßen über äußere Größen " * 5).encode() + b"\xff end")
    assert "Grüße und schöne Straßen" in texts(reading)
    assert reading.notes == ("1 damaged characters were replaced.",)


@pytest.mark.parametrize(
    "name", ["notes", "LICENSE", "settings.unknown", "code.py", "data.json", "server.log", "a.RST"]
)
def test_any_plain_text_is_read_whatever_its_suffix(read, name):
    assert texts(read(name, "just words")) == "just words"


@pytest.mark.parametrize("content", ["", "   \n\t\n ", "\u200b\ufeff", "\x00\x00"])
def test_nothing_to_read_is_said_to_be_empty(read, content):
    with pytest.raises(DocumentError, match=r"^a\.md "):
        read("a.md", content)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.docx", b"just text", "is named .docx but is not a Word file"),
        ("a.txt", b"PK\x03\x04rest", "is named .txt but is a zip archive"),
        ("a.md", b"\x89PNG\r\n\x1a\n0000", "is named .md but is a picture"),
        ("a.txt", bytes(range(1, 32)) * 50, "holds no text"),
        ("a.pdf", b"%PDF-1.7\nnothing else", "is damaged"),
        ("a.docx", docx("")[:-30], "is damaged"),
        ("a.ipynb", b"[1, 2]", "is not a notebook"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(read, name, content, sentence):
    with pytest.raises(
        UnreadableDocument, match=f"{name} .*{sentence}".replace(".", r"\.").replace(r"\.*", ".*")
    ):
        read(name, content)


def test_a_pdf_without_its_suffix_is_recognised(read):
    with pytest.raises(UnreadableDocument, match="PDF"):
        read("download", b"%PDF-1.7\nnothing else")


# --- hostile files ----------------------------------------------------------------------


def refused_or_short(read, name: str, content: str | bytes) -> None:
    """It ended well, and not because its time was up; the next file works."""
    refusal = ""
    try:
        assert len(texts(read(name, content))) <= 20_000_000
    except DocumentError as error:
        refusal = error.message
    assert "took longer" not in refusal
    assert texts(read("next.txt", "all well")) == "all well"


def test_a_zip_bomb_is_given_up(read):
    with pytest.raises(DocumentTooLarge, match=r"bomb\.docx unpacks to far more"):
        read("bomb.docx", docx("<w:p/>" + " " * 60_000_000))


def test_a_zip_that_lies_about_its_size_is_given_up(read):
    honest = docx("<w:p/>" + " " * 60_000_000)
    size = zipfile.ZipFile(io.BytesIO(honest)).getinfo("word/document.xml").file_size
    refused_or_short(
        read, "forged.docx", honest.replace(size.to_bytes(4, "little"), (500).to_bytes(4, "little"))
    )


def test_a_zip_of_too_many_entries_is_given_up(read):
    buffer = io.BytesIO(docx(paragraph("x")))
    with zipfile.ZipFile(buffer, "a") as archive:
        for number in range(5001):
            archive.writestr(f"word/media/{number}", b"")
    with pytest.raises(DocumentTooLarge):
        read("many.docx", buffer.getvalue())


ENTITIES = "<!ENTITY a0 'lol'>" + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))


@pytest.mark.parametrize(
    "doctype",
    [f"<!DOCTYPE x [{ENTITIES}]>", "<!DOCTYPE x [<!ENTITY a11 SYSTEM 'file:///etc/passwd'>]>"],
    ids=["a billion laughs", "an external entity"],
)
def test_entities_in_a_word_file_are_never_followed(read, doctype):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            "word/document.xml",
            f"{doctype}<document><body><p><r><t>start &a11;</t></r></p></body></document>",
        )
    try:
        found = texts(read("laughs.docx", buffer.getvalue()))
    except UnreadableDocument:
        return
    assert "lol" not in found
    assert "root:" not in found


@pytest.mark.parametrize(
    "doctype", [f"<!DOCTYPE x [{ENTITIES}]>", "<!DOCTYPE x SYSTEM 'http://127.0.0.1:9/x.dtd'>"]
)
def test_entities_in_xml_are_never_followed(read, doctype):
    refused_or_short(read, "laughs.xml", f"{doctype}<x>start &a11;</x>")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deep.html", "<div>" * 100_000 + "needle" + "</div>" * 100_000),
        ("deep.md", ">" * 100_000 + " needle"),
        ("deep.md", "> " * 100_000 + "\n" + "needle [" * 50_000),
        ("marks.md", "#" * 100_000 + " needle " + "#" * 100_000),
        ("comments.md", "<!--" * 100_000 + "\n-->needle"),
        ("line.html", "<p>needle " + "x " * 2_000_000),
        ("angles.srt", "1\n00:00:01,000 --> 00:00:02,000\nneedle" + "<" * 500_000),
        ("marks.txt", "needle a" + "\u0301\u0316" * 200_000),
        ("blanks.txt", "needle" + " " * 5_000_000 + "x"),
        ("quote.csv", 'name,b\nneedle,"' + "x\n" * 1_000_000),
    ],
    ids=lambda value: value if len(value) < 20 else "",
)
def test_a_file_made_to_hang_a_reader_is_read_before_it_is_given_up(read, name, content):
    assert "needle" in texts(read(name, content))


def cues(count: int) -> str:
    def clock(second: int) -> str:
        return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"

    return "".join(f"{n}\n{clock(n)},000 --> {clock(n)},900\nCue {n}\n\n" for n in range(count))


def test_a_transcript_of_a_hundred_thousand_cues_is_read(read):
    reading = read("long.srt", cues(100_000))
    assert len(reading.sections) == 100_000
    assert reading.sections[-1].place.start_s == 99_999


def test_more_than_twenty_million_characters_are_cut_off_with_a_note(read):
    reading = read("huge.txt", "word and word. " * 1_400_000)
    assert len(texts(reading)) <= 20_000_000
    assert "20 million" in reading.notes[0]


# --- the child --------------------------------------------------------------------------


@needs_documents
def test_a_file_that_takes_too_long_is_given_up_and_the_next_one_works(tmp_path):
    reader = ReaderProcess(wall_s=5)
    note = tmp_path / "note.txt"
    note.write_text("next")
    try:
        with pytest.raises(UnreadableDocument) as given_up:
            reader.read(DOCUMENTS / "good" / "DA-619p.pdf", "DA-619p.pdf")
        assert given_up.value.message == (
            "Reading DA-619p.pdf took longer than 5 seconds; it was given up. Split it and add the parts."
        )
        assert texts(reader.read(note, "note.txt")) == "next"
    finally:
        reader.close()


def _reading_in_background(reader: ReaderProcess, path: Path) -> tuple[threading.Thread, list[Exception]]:
    errors: list[Exception] = []

    def work() -> None:
        try:
            reader.read(path, path.name)
        except (DocumentError, Conflict) as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: reader._child is not None and _computing(reader._child.pid))
    return thread, errors


def _computing(pid: int) -> bool:
    try:
        return psutil.Process(pid).cpu_times().user > 1.0
    except psutil.NoSuchProcess:
        return False


@needs_documents
def test_a_child_that_dies_costs_one_file(tmp_path):
    reader = ReaderProcess()
    note = tmp_path / "note.txt"
    note.write_text("next")
    try:
        thread, errors = _reading_in_background(reader, DOCUMENTS / "good" / "DA-619p.pdf")
        os.kill(reader._child.pid, signal.SIGKILL)
        thread.join(60)
        assert isinstance(errors[0], UnreadableDocument)
        assert errors[0].message.startswith("Reading DA-619p.pdf ended unexpectedly")
        assert texts(reader.read(note, "note.txt")) == "next"
    finally:
        reader.close()


@needs_documents
def test_closing_the_program_does_not_wait_for_a_file():
    reader = ReaderProcess()
    thread, errors = _reading_in_background(reader, DOCUMENTS / "good" / "DA-619p.pdf")
    pid = reader._child.pid
    reader.close()
    reader.close()
    thread.join(60)
    # The file was not read to its end. No `DocumentError`: nothing is wrong with the file.
    assert isinstance(errors[0], Conflict)
    assert not psutil.pid_exists(pid)


def test_a_file_that_needs_too_much_memory_is_given_up(tmp_path):
    path = tmp_path / "large.txt"
    path.write_text("word " * 15_000_000)
    note = tmp_path / "note.txt"
    note.write_text("next")
    reader = ReaderProcess(memory_bytes=300_000_000)
    try:
        with pytest.raises(
            UnreadableDocument, match=r"Reading large\.txt (needs more memory|ended unexpectedly)"
        ):
            reader.read(path, "large.txt")
        assert texts(reader.read(note, "note.txt")) == "next"
    finally:
        reader.close()


def test_a_child_that_grew_large_is_replaced_without_anybody_noticing(tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("next")
    reader = ReaderProcess(retire_bytes=1)
    try:
        reader.read(note, "note.txt")
        first = reader._child.pid
        assert texts(reader.read(note, "note.txt")) == "next"
        assert reader._child.pid != first
    finally:
        reader.close()


def test_one_child_reads_many_files_for_many_threads(tmp_path):
    reader = ReaderProcess()
    found: dict[int, str] = {}
    paths = []
    for number in range(8):
        path = tmp_path / f"{number}.txt"
        path.write_text(f"text {number}")
        paths.append(path)

    def work(number: int) -> None:
        found[number] = texts(reader.read(paths[number], paths[number].name))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    pid = reader._child.pid
    reader.close()
    assert found == {number: f"text {number}" for number in range(8)}
    assert not psutil.pid_exists(pid)


PARENT = """
import sys
from pathlib import Path
from companion.library.readers import ReaderProcess
reader = ReaderProcess()
reader.read(Path(sys.argv[1]), "note.txt")
print(reader._child.pid, flush=True)
reader.read(Path(sys.argv[2]), "long.srt")
"""


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_child_ends_with_its_parent_also_in_the_middle_of_a_file(tmp_path):
    note, long = tmp_path / "note.txt", tmp_path / "long.srt"
    note.write_text("text")
    long.write_text(cues(400_000))
    command = [sys.executable, "-c", PARENT, str(note), str(long)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        until(lambda: _computing(pid))
        assert not _gone(pid)
        parent.kill()
        until(lambda: _gone(pid))


STUCK = """
from companion.child import follow_parent
follow_parent()
print("ready", flush=True)
import re
re.match("(a+)+$", "a" * 64 + "b")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="signals for pipes are known on Linux only")
def test_even_a_child_that_holds_the_interpreter_ends_with_its_parent():
    read_end, write_end = os.pipe()
    environment = {**os.environ, "COMPANION_LIFELINE_FD": str(read_end)}
    command = [sys.executable, "-c", STUCK]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, pass_fds=(read_end,), stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"ready\n"
        os.close(read_end)
        until(lambda: psutil.Process(child.pid).cpu_times().user > 0.5)
        try:
            os.close(write_end)
            assert child.wait(60) != 0
        finally:
            child.kill()


NETWORK = """
import socket
from companion.child import refuse_network
refuse_network()
for attempt in (
    lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
    lambda: socket.getaddrinfo("localhost", 80),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)),
):
    try:
        attempt()
    except PermissionError as error:
        print(error)
"""


def test_the_child_has_no_network():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NETWORK],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n") == ["no network here"] * 3 + [""]


def test_the_page_imports_no_parser_for_it():
    code = "import sys, companion.library.readers; print({'lxml', 'pypdf', 'bs4'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


# --- names and characters ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\secret.txt", "secret.txt"),
        ("C:\\Users\\me\\a.md", "a.md"),
        ("evil\u202egnp.exe", "evilgnp.exe"),
        ("zero\u200bwidth\x00.txt", "zerowidth.txt"),
        ("line\nbreak\ttab.txt", "line break tab.txt"),
        ("A\u0301nna.txt", "Ánna.txt"),
        ("<img src=x>.png", "<img src=x>.png"),
        ("", "document"),
        ("..", "document"),
        ("///", "document"),
        ("\u202e\u200b", "document"),
        ("CON", "CON"),
        ("x" * 500 + ".pdf", "x" * 115 + "….pdf"),
        ("y" * 500, "y" * 120),
        ("reports/2024/a.pdf", "reports/2024/a.pdf"),
        ("reports\\2024\\a.pdf", "reports/2024/a.pdf"),
        ("./reports//./a.pdf", "reports/a.pdf"),
        ("re\u202eports\n/a.pdf", "reports/a.pdf"),
        ("/reports/a.pdf", "a.pdf"),
        ("//server/share/a.pdf", "a.pdf"),
        ("./C:/Users/a.pdf", "a.pdf"),
        ("file:///home/me/a.pdf", "a.pdf"),
        ("reports/../../a.pdf", "a.pdf"),
        ("reports/.\u200b./a.pdf", "a.pdf"),
        ("reports/. ./a.pdf", "a.pdf"),
        ("reports/", "document"),
        ("reports/..", "document"),
    ],
)
def test_a_file_name_is_shown_without_its_weapons(name, shown):
    assert clean_name(name) == shown
    assert clean_name(shown) == shown
    assert len(shown) <= 120


def test_long_folders_are_cut_and_stay_different():
    names = {clean_name(f"{'deep/' * 100}{last}/a.pdf") for last in ("first", "second")}
    assert len(names) == 2
    assert all(len(name) < 120 and name.endswith("/a.pdf") and clean_name(name) == name for name in names)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("\ud83d\ude00 \ud800x", "😀 x"),
        ("pay\u00adable \u202e99\u202c \u2066x\u2069", "payable 99 x"),
        ("seen\U000e0041\U000e0042", "seen"),
        ("می‌خواهم", "می‌خواهم"),
        ("क्‍ष", "क्‍ष"),
        ("wo\u200crd \u200d", "word "[:-1]),
        ("👩‍🚀", "👩‍🚀"),
        ("\ufb01nd", "find"),
        ("a\u00a0b\u3000c", "a b c"),
        ("a   \n\n\n\n\n    b", "a\n\n    b"),
        ("e\u0301", "é"),
    ],
)
def test_text_is_cleaned_in_one_way(text, clean):
    assert clean_text(text) == clean
    assert clean_text(clean) == clean


def test_every_suffix_has_a_source_type():
    assert SUFFIXES[".pdf"] == "pdf"
    assert SUFFIXES[".vtt"] == "transcript"
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in SUFFIXES)
