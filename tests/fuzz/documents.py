"""Documents of every format, and the offsets of what is made of them."""

import bz2
import collections
import gzip
import json
import lzma
import os
import pathlib
import re
import tempfile

import numpy as np
from hypothesis import strategies as st

from realm_tf import literal_path
from realm_tf.data import block_writer, headings
from realm_tf.data.answers import make_matchers
from realm_tf.data.documents import Document, clean_text, list_sources, read_documents
from realm_tf.data.questions import Question
from realm_tf.data.source_paths import split_paths
from realm_tf.text.sentences import split_sentences
from realm_tf.text.tokenizer import Tokenizer
from tests.fuzz.door import JSON, Door

VOCABULARY = pathlib.Path(__file__).parents[2] / "realm_tf" / "assets" / "realm_mini" / "vocab.txt"
# What has misled tokenizers: zero widths, marks of direction, joiners, controls, line ends, what decomposes or folds
# into more characters than one, combining marks alone and in heaps, the planes of Unicode.
AWKWARD = [
    *"\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u202a\u202e\u2066\u2069\u061c",
    *"\x00\x01\x07\x08\t\n\x0b\x0c\r\x1b\x1f\x7f\x85\xa0\u2028\u2029\u3000\ufffd\ufffe",
    *"ﬁﬃ½⅓Ǆİıßẞſ№℡㎏각한글ﷺẛ̣Å\u212b",
    "e\u0301",
    "\u0301",
    "a" + "\u0300" * 40,
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते",
    "ไทย",
    "日本語。",
    "👩\u200d👩\u200d👧",
    "🇨🇭",
    "👍🏽",
    "\U00010400",
    "\U0001d400",
    "\U00020000",
    "\U0002ffff",
    "\U00030000",
    "\U000e0041",
    "\U000f0000",
    "\U0010ffff",
]
WORDS = "The the Mozart was born in 1756 Salzburg . , ! ? Dr. U.S. e.g. \"quoted\" (city) rock'n'roll [MASK]".split()
BLANKS = st.sampled_from([" ", " ", "\n", "  "])
TEXTS = st.lists(
    st.sampled_from(AWKWARD) | st.sampled_from(WORDS) | BLANKS | st.text(max_size=6), max_size=40
).map("".join)
_TOKENIZERS = []


def tokenizer():
    """One for all cases."""
    if not _TOKENIZERS:
        _TOKENIZERS.append(Tokenizer(VOCABULARY))
    return _TOKENIZERS[0]


# === Files ===

MARKUP = [*"# ## ``` ~~~ ```` --- +++ === -- > - 1. $ |".split(), "    ", "\t", "title: x", "<!--", "-->"]
MARKUP += ["<pre>", "</pre>", "&amp;", "&lt;doc", "&gt;", "&#0;", "&#x2028;", "&amp;amp;", "&nope;", "&#99999999999;"]
RECORDS = st.fixed_dictionaries({"title": TEXTS, "text": TEXTS}, optional={"id": TEXTS | st.integers(), "url": TEXTS})
LINES = st.one_of(
    RECORDS.map(json.dumps),
    JSON.map(json.dumps),
    st.tuples(TEXTS, TEXTS, TEXTS).map("\t".join),
    TEXTS.map(lambda text: f'<doc id="1" url="" title="{text}">'),
    # Entities, and what is a heading in one place and none in another.
    st.lists(st.sampled_from(MARKUP) | TEXTS, max_size=3).map(" ".join),
    st.sampled_from(["</doc>", "id\ttext\ttitle", "<doc >", "", "[" * 3000, '{"title": "\\ud800", "text": "\\udfff"}']),
    TEXTS,
)
NAMES = st.sampled_from("a.jsonl a.json a.tsv a.txt a.md wiki_00 a a.pdf a.jsonl.gz a.txt.xz a.tsv.bz2 a.md.gz".split())
_COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


@st.composite
def files(draw):
    """(name, bytes)."""
    name = draw(NAMES)
    lines = draw(st.lists(LINES, max_size=6))
    if name.startswith("a.tsv") and draw(st.booleans()):
        lines.insert(0, "id\ttext\ttitle")
    raw = draw(st.sampled_from(["\n", "\r\n"])).join(lines).encode("utf-8", "surrogatepass")
    raw = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"])) + raw
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=6)) + raw[at:]
    compress = _COMPRESS.get(os.path.splitext(name)[1])
    if compress and draw(st.integers(0, 4)):
        raw = compress(raw)
        raw = raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 4)) == 0 else raw
    return name, raw, draw(st.booleans())


def check_file(value):
    """What is read is clean text that has a UTF-8 form."""
    name, raw, skip_malformed = value
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(raw)
        for source in list_sources(path):
            for document in read_documents(source, skip_malformed=skip_malformed):
                assert document.id and document.text
                for text in (document.id, document.title, document.text, document.url):
                    assert text == clean_text(text)
                    text.encode()
                    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", text)


# === Headings ===


def check_headings(lines):
    """No line is lost: what is left, and the lines of the title, are the lines of the text."""
    text = "\n".join(lines)
    for split in (headings.split_markdown, headings.split_plain):
        title, rest = split(text)
        words = collections.Counter(text.split())
        lost = words - collections.Counter(rest.split()) - collections.Counter(title.split())
        # The marks of a heading, and the key and the quotation marks of a title in front matter.
        assert all(re.fullmatch(r"#+|=+|-+|title|[:=]|title[ \t]*[:=].*|.*[\"'].*", word, re.I) for word in lost), lost


HEADING_LINE = st.lists(st.sampled_from(MARKUP) | st.sampled_from(WORDS), max_size=4).map(" ".join)
HEADING_LINES = st.lists(HEADING_LINE, max_size=9)


# === Names of files ===

NAMES_OF_FILES = st.lists(
    st.binary(min_size=1, max_size=12).map(lambda raw: re.sub(rb"[/\0]", b",", raw)) | st.sampled_from(
        [b"a[1]", b"*", b"?", b"{a,b}", b" a ", b"caf\xe9", b"a,b", b"back\\slash", b"%s", b"\n"]
    ), min_size=1, max_size=4, unique=True,
)  # fmt: skip


def check_names(names):
    """Every file of a folder is read, whatever its name and its folder's are; a path with commas is one path."""
    names = [name for name in names if not name.startswith(b".")]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            os.mkdir(os.path.join(os.fsencode(folder), b"in " + name))
            with open(os.path.join(os.fsencode(folder), b"in " + name, name + b".txt"), "w") as file:
                file.write("Anna was born.\n")
        if names:
            found = [d for source in list_sources(folder) for d in read_documents(source)]
            assert len(found) == len(names) and {d.text for d in found} == {"Anna was born."}
            path = os.fsdecode(os.path.join(os.fsencode(folder), b"in " + names[0]))
            assert split_paths(path) == [path]
            with literal_path.literal(path) as other:
                assert os.listdir(other) == os.listdir(path)


# === Offsets ===


@st.composite
def texts(draw):
    """(title, text, block length, numbers that choose an answer), of documents as they are read."""
    title, text = clean_text(draw(TEXTS)).replace("\n", " "), clean_text(draw(TEXTS))
    return title, text, draw(st.integers(8, 64)), draw(st.tuples(st.floats(0, 1), st.integers(1, 5)))


def check_offsets(value):
    """Pieces lie where they were read from, and `text[start:end]` of an answer that is found is the answer."""
    title, text, max_block_length, (at, width) = value
    tokens = tokenizer()
    arrays, _ = block_writer.build_shard([Document("1", title, text, "")], tokens, max_block_length)
    body, bounds = arrays["body_token_ids"], arrays["body_bounds"]
    wheres, blocks = set(), []  # where the block before may have ended
    for n in range(len(bounds) - 1):
        block_text = _string(arrays["texts"], arrays["text_bounds"], n)
        # Before the first piece there may be characters of which none is made; after it only white space is left out,
        # and the pieces of one character may be cut: both blocks have it.
        begins = {w for end in wheres for w in (end - 1, _after_blanks(text, end))} if n else {text.find(block_text)}
        wheres = {w + len(block_text) for w in begins if w >= 0 and text.startswith(block_text, w)}
        assert wheres, "a block's text is not what follows in the document"
        row = slice(bounds[n], bounds[n + 1])
        blocks.append(Block(block_text, body[row], arrays["body_token_starts"][row], arrays["body_token_ends"][row]))
        assert 0 < len(blocks[-1].ids) <= max_block_length
    if blocks:
        _check_pieces(blocks[:: 1 + len(blocks) // 500], tokens)
        block = blocks[int(at * (len(blocks) - 1))]
        _check_answer(block, tokens, int(at * (len(block.ids) - 1)), width)
    sentences = split_sentences(text)
    assert all(a[1] <= b[0] for a, b in zip(sentences, sentences[1:], strict=False))
    assert "".join("".join(text[s:e].split()) for s, e in sentences) == "".join(text.split())


def _after_blanks(text, at):
    while at < len(text) and text[at].isspace():
        at += 1
    return at


class Block:
    """A store of the one block, row 0, as `AnswerMatcher` reads one."""

    def __init__(self, text, ids, starts, ends):
        self._text, self.ids, self.starts, self.ends = text, ids, starts.astype(int), ends.astype(int)
        self.body_token_ids, self.body_bounds = ids, np.array([0, len(ids)])

    def text(self, _):
        return self._text

    def token_offsets(self, _):
        return self.starts, self.ends


def _check_pieces(blocks, tokens):
    slices = []
    for block in blocks:
        assert (block.starts >= 0).all() and (block.ends <= len(block.text(0))).all()
        assert (block.starts < block.ends).all()
        assert (np.diff(block.starts) >= 0).all() and (np.diff(block.ends) >= 0).all()
        slices += [block.text(0)[start:end] for start, end in zip(block.starts, block.ends, strict=True)]
    again = tokens.tokenize(slices)
    for i, piece in enumerate(np.concatenate([block.ids for block in blocks])):
        if piece != tokens.unk_id and tokens.unk_id not in again[i][0]:
            letters = "".join(tokens.pieces[j].removeprefix("##") for j in again[i][0])
            plain = tokens.pieces[piece].removeprefix("##")
            # A piece may end within what a character folds to, "rolls" and "##s" of "rollß", and begin so, too, "ff",
            # "##if", "##i" of two ligatures: the last one has that character.
            assert plain in letters or any(letters.endswith(plain[: n + 1]) for n in range(len(plain)))


def _check_answer(block, tokens, first, width):
    last = min(first + width, len(block.ids))
    ids = block.ids[first:last]
    continues = tokens.is_continuation
    cut = first and (continues[block.ids[first]] or block.ends[first - 1] > block.starts[first])
    cut |= last < len(block.ids) and (continues[block.ids[last]] or block.starts[last] < block.ends[last - 1])
    if cut or tokens.unk_id in ids:
        return  # no answer that a person would give begins or ends within a word
    answer = block.text(0)[block.starts[first] : block.ends[last - 1]]
    (plain, pattern) = make_matchers(
        [Question("q", (answer,), "string", ""), Question("q", (re.escape(answer),), "regex", "")], tokens
    )
    pieces = tokens.tokenize([answer]).token_ids.tolist()
    if pieces != ids.tolist():
        return  # what stands around a word may be part of it, such as a mark that combines with a space
    spans = plain.piece_spans(block, 0)
    assert (first, last) in spans
    for start, end in spans:
        found = block.text(0)[block.starts[start] : block.ends[end - 1]]
        assert tokens.tokenize([found]).token_ids.tolist() == pieces, (answer, found)
    if len(answer) <= 100:
        found = pattern.piece_spans(block, 0)
        # Matches of a pattern do not overlap: ".." is found once in "...".
        assert (first, last) in found or any(start < first < end for start, end in found)


def _string(flat, bounds, n):
    return flat[bounds[n] : bounds[n + 1]].tobytes().decode()


def long_paragraphs(characters):
    """One paragraph of that many characters without a sentence end."""
    unit = "".join(piece for piece in AWKWARD if len(clean_text(piece)) and "\n" not in clean_text(piece)) + " Mozart "
    return st.just(("Long", clean_text((unit * (characters // len(unit) + 1))[:characters]), 64, (0.5, 1)))


DOORS = (
    Door("files of documents", files(), check_file, 0.3),
    Door("offsets in documents", texts(), check_offsets, 0.15),
    Door("headings", HEADING_LINES, check_headings, 0.03),
    Door("names of files", NAMES_OF_FILES, check_names, 0.01),
)
