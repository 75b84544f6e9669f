"""Documents from files: JSON lines, WikiExtractor output, DPR's psgs_w100.tsv, folders of .txt and .md.

Formats are recognised by name and content. Everything that is dropped is counted.
"""

import collections
import dataclasses
import hashlib
import html
import html.entities
import os
import re

from realm_tf.data import headings, lines
from realm_tf.data.source_paths import files_below, shown
from realm_tf.errors import UserError

TSV_HEADER = ["id", "text", "title"]
FORMATS = "JSON lines, WikiExtractor output, DPR's TSV, .txt or .md"
_EXTENSIONS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".tsv": "tsv", ".txt": "text", ".md": "text"}
_TEXT_FILES_A_SOURCE = 1000

_NEWLINES = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_SPACES = re.compile(r"[ \t]+")
_SPACED_NEWLINE = re.compile(r" ?\n ?")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_DOC = re.compile(r"<doc\s+(.*)>\s*")
# As WikiExtractor writes them, with a semicolon: without one, an ampersand is likelier meant as it stands.
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[a-zA-Z][a-zA-Z0-9]*);")
_ATTRIBUTE = re.compile(r'(\w+)="(.*?)"(?=\s+\w+="|\s*$)')


@dataclasses.dataclass(frozen=True)
class Document:
    """One document. `id` is unique in a corpus; `url` may be empty."""

    id: str
    title: str
    text: str
    url: str


@dataclasses.dataclass(frozen=True)
class Source:
    """Files that one worker reads in order.

    kind: "json", "wiki", "tsv" or "text". root: the folder that ids of text files are relative to.
    """

    kind: str
    paths: tuple
    root: str


def without_beginning(document: Document, words: int) -> Document:
    """The document without its first paragraphs of up to `words` words together; the first one goes however long it is.

    What is left of an article whose beginning is in another corpus, cut after whole paragraphs in the same way.

    >>> without_beginning(Document("7", "Radium", "One two.\\nThree.\\nFour five.", ""), 3).text
    'Four five.'
    """
    paragraphs, count, total = document.text.split("\n"), 0, 0
    for paragraph in paragraphs:
        total += len(paragraph.split())
        if count and total > words:
            break
        count += 1
    return dataclasses.replace(document, text="\n".join(paragraphs[count:]))


def list_sources(path, counters=None):
    """The `Source`s of a file or folder, in an order that depends on names alone.

    Args:
      path: a file, or a folder that is searched with its subfolders (hidden names are passed over).
      counters: optional `collections.Counter`; files of a folder that are empty or no documents are counted here.

    Raises: `UserError` if the path is missing, an empty file, of no known format, or a folder without documents.
    """
    counters = collections.Counter() if counters is None else counters
    path = str(path)
    if os.path.isdir(path):
        return _list_folder(path, counters)
    if not os.path.exists(path):
        raise UserError(
            f"{path} does not exist: give a file or folder of documents (commas divide paths; one that has a comma is "
            "taken whole if it exists)"
        )
    if not os.path.isfile(path):
        # A pipe could be read once, and documents are read again and again; one that nobody writes to never begins.
        raise UserError(f"{shown(path)} is neither a file nor a folder: write the documents to a file")
    kind = _kind(path)
    if kind == "empty":
        raise UserError(f"{path} is empty: give a file with documents")
    if kind is None:
        raise UserError(f"{path} is no format that can be read: give {FORMATS}")
    return [Source(kind, (path,), os.path.dirname(path))]


def _list_folder(folder, counters):
    sources, texts = [], []
    for path in files_below(folder, counters):
        kind = _kind(path)
        if kind == "text":
            texts.append(path)
        elif kind in ("json", "wiki", "tsv"):
            sources.append(Source(kind, (path,), folder))
        else:
            counters["empty_file" if kind == "empty" else "unrecognised_file"] += 1
    # Many small files make one source, so that each worker gets a call's worth of text.
    for i in range(0, len(texts), _TEXT_FILES_A_SOURCE):
        sources.append(Source("text", tuple(texts[i : i + _TEXT_FILES_A_SOURCE]), folder))
    if not sources:
        raise UserError(f"the folder {folder} holds no documents: put files there that are {FORMATS}")
    return sources


def _kind(path):
    with lines.open_binary(path) as file:
        try:
            head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        except Exception as error:  # each decompressor has errors of its own
            raise UserError(f"{path} is damaged ({error}): copy or download it again") from error
    if not head:
        return "empty"
    if head.startswith(b"<doc "):
        return "wiki"
    by_name = _EXTENSIONS.get(os.path.splitext(lines.strip_compression(path))[1].lower())
    if by_name:
        return by_name
    if head.startswith(b"{"):
        return "json"
    return "tsv" if head.split(b"\n")[0].decode("utf-8", "replace").strip().split("\t") == TSV_HEADER else None


def read_documents(source, counters=None, drop_list_pages=True, skip_malformed=False):
    """Yields the `Document`s of a `Source`, cleaned.

    Args:
      source: from `list_sources`.
      counters: optional `collections.Counter`; what is dropped is counted in "empty_text", "list_page", "malformed",
        and in "nan_title" the titles that are pandas' word for none.
      drop_list_pages: drop "List of ...", "Index of ...", "Outline of ..." and "... (disambiguation)", as ORQA does.
      skip_malformed: count and skip a broken record instead of raising.

    Raises: `UserError` that names file and line of a broken record.
    """
    counters = collections.Counter() if counters is None else counters

    def broken(error):
        if not skip_malformed:
            raise UserError(f"{error} (--skip_malformed drops such records)") from None
        counters["malformed"] += 1

    for path in source.paths:
        for document in _READERS[source.kind](path, source.root, broken):
            document = _cleaned(document)
            if document.title == "nan" and source.kind in ("json", "tsv"):
                # What pandas makes of a missing value; the article on the number is "NaN".
                counters["nan_title"] += 1
                document = dataclasses.replace(document, title="")
            if not document.text:
                counters["empty_text"] += 1
            elif drop_list_pages and is_list_page(document.title):
                counters["list_page"] += 1
            else:
                yield document


def is_list_page(title):
    """True for the titles of Wikipedia's lists, indexes, outlines and disambiguation pages."""
    return title.startswith(("List of ", "Index of ", "Outline of ")) or title.endswith("(disambiguation)")


def clean_text(text):
    """Text with "\\n" as its only line break, no control characters, no runs of blanks; the rest unchanged."""
    # A lone surrogate, which JSON can spell, has no UTF-8 form.
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = _CONTROLS.sub("", _NEWLINES.sub("\n", text))
    return _SPACED_NEWLINE.sub("\n", _SPACES.sub(" ", text)).strip()


def _cleaned(document):
    title, text = clean_text(clean_text(document.title).replace("\n", " ")), clean_text(document.text)
    # Without an id the content is the identity: passages that share a title stay apart, exact copies fall together.
    identity = clean_text(document.id) or f"{title}#{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return Document(identity, title, text, clean_text(document.url))


def _read_json(path, _, broken):
    by_name = os.path.basename(path).startswith("wiki_")
    for number, raw in lines.raw_lines(path):
        if raw.strip():
            try:
                document = _from_object(lines.parse_object(raw, path, number), f"{path}:{number}")
            except UserError as error:
                broken(error)
                continue
            yield _of_extractor(document) if by_name or "?curid=" in document.url else document


def _from_object(record, where):
    for name in ("title", "text"):
        if not isinstance(record.get(name), str):
            what = "is not a string" if name in record else "is missing"
            raise UserError(f'{where}: "{name}" {what}: every line needs a "title" and a "text"')
    # BEIR's corpora call it _id.
    identity, url = record["id"] if record.get("id") is not None else record.get("_id"), record.get("url")
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    for name, value in (("id", identity), ("url", url)):
        if not isinstance(value, str | None):
            raise UserError(f'{where}: "{name}" is neither a string nor missing')
    return Document(identity or "", record["title"], record["text"], url or "")


def _of_extractor(document):
    """A document of WikiExtractor's, text or JSON: with entities, and with the title as the first line of the text.

    The text is unescaped once, for an article may be about entities; but one and the same title may be escaped once in
    one place and twice in the other.
    """
    title, text, url = (_unescaped(part) for part in (document.title, document.text, document.url))
    first, end, rest = text.lstrip().partition("\n")
    if end and _plain_title(first) == _plain_title(title):
        text = rest
    return Document(document.id, title, text, url)


def _unescaped(text):
    return _ENTITY.sub(_unescaped_entity, text)


def _unescaped_entity(match):
    # Of a name that HTML does not know, `html.unescape` would take a beginning that it knows: "&notify;" is no "¬ify;".
    entity = match.group()
    return html.unescape(entity) if entity[1] == "#" or entity[1:] in html.entities.html5 else entity


def _plain_title(title):
    return " ".join(_unescaped(_unescaped(title)).split())


def _read_wiki(path, _, broken):
    opened, attributes, body = 0, {}, []
    for number, raw in lines.raw_lines(path):
        try:
            line = lines.decode(raw, path, number)
            start = _DOC.fullmatch(line)
            if start and not opened:
                attributes = dict(_ATTRIBUTE.findall(start.group(1)))
                opened, body = number, []
            elif start:
                previous, opened = opened, number
                attributes, body = dict(_ATTRIBUTE.findall(start.group(1))), []
                raise UserError(f"{path}:{previous}: <doc> is not closed before the next one: mend the file")
            elif opened and line.strip() == "</doc>":
                where, opened = f"{path}:{opened}", 0
                yield _from_wiki(attributes, "".join(body), where)
            elif opened:
                body.append(line)
            elif line.strip():
                raise UserError(f"{path}:{number}: text outside <doc ...> and </doc>: mend the file")
        except UserError as error:
            broken(error)
    if opened:
        broken(UserError(f"{path}:{opened}: <doc> is not closed at the end of the file: it may be cut short"))


def _from_wiki(attributes, body, where):
    if "title" not in attributes:
        raise UserError(f"{where}: <doc> has no title: every document needs one")
    return _of_extractor(Document(attributes.get("id", ""), attributes["title"], body, attributes.get("url", "")))


def _read_tsv(path, _, broken):
    for number, raw in lines.raw_lines(path):
        try:
            row = lines.decode(raw, path, number).rstrip("\r\n").split("\t")
        except UserError as error:
            broken(error)
            continue
        if number == 1:
            if row != TSV_HEADER:
                raise UserError(f"{path}:1: the header must be id, text, title divided by tabs (DPR's psgs_w100.tsv)")
        elif len(row) == 3 and row[0]:
            identity, text, title = (_unquoted(field) for field in row)
            yield Document(identity, title, text, "")
        elif row != [""]:
            what = f"{len(row)} columns" if len(row) != 3 else "no id"
            broken(UserError(f"{path}:{number}: {what}, expected id, text and title divided by tabs"))


def _unquoted(field):
    """DPR's rows are CSV cells; none of them spans lines, so each line is parsed by itself and an error stays in it."""
    return field[1:-1].replace('""', '"') if _QUOTED.fullmatch(field) else field


def _read_text(path, root, broken):
    with lines.open_binary(path) as file:
        try:
            text = lines.decode(file.read().removeprefix(b"\xef\xbb\xbf"), path)
        except UserError as error:
            broken(error)
            return
        except Exception as error:  # each decompressor has errors of its own
            raise UserError(f"{path} is damaged ({error}): copy or download it again") from error
    identity = shown(os.path.relpath(path, root or ".")).replace(os.sep, "/")
    stem = shown(os.path.splitext(os.path.basename(lines.strip_compression(path)))[0])
    is_markdown = lines.strip_compression(path).lower().endswith(".md")
    split = headings.split_markdown if is_markdown else headings.split_plain
    # Before blanks are cleaned away: by their indentation Markdown tells code.
    title, rest = (clean_text(part) for part in split(_CONTROLS.sub("", _NEWLINES.sub("\n", text))))
    title = title.replace("\n", " ")
    yield Document(identity, *((title, rest) if title and rest else (stem, text)), "")


_READERS = {"json": _read_json, "wiki": _read_wiki, "tsv": _read_tsv, "text": _read_text}
