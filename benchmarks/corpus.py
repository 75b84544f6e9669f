"""Text, blocks and questions that the paths measure with: wiki2015 of REALM_DATA_DIR, else the embedded corpus.

Without real data the embedded articles are repeated under further titles until there are enough: the blocks are then
as long as they are, and no more different than that.
"""

import gzip
import itertools
import json
import os
import pathlib

import numpy as np

WIKI, VOCABULARY = "wiki2015/articles_lead400.jsonl.gz", "bert_vocab/vocab.txt"


def _real(name):
    """The path of a file of REALM_DATA_DIR; None if there is none."""
    folder = os.environ.get("REALM_DATA_DIR")
    path = pathlib.Path(folder) / name if folder else None
    return path if path and path.is_file() else None


def vocabulary():
    """Path of a vocab.txt: BERT's of REALM_DATA_DIR, else realm-mini's."""
    from realm_tf.models.encoder import MINI_FOLDER

    return str(_real(VOCABULARY) or MINI_FOLDER / "vocab.txt")


def name():
    """What the text is, for the table."""
    return "wiki2015" if _real(WIKI) else "embedded corpus"


def write_documents(path, megabytes):
    """Writes JSON lines {"id", "title", "text"} of about so many MB of title and text; returns the exact MB."""
    written, wanted = 0, megabytes * 1e6
    with open(path, "w", encoding="utf-8") as file:
        for document in _documents():
            if written >= wanted:
                break
            file.write(json.dumps(document) + "\n")
            written += len((document["title"] + document["text"]).encode())
    return written / 1e6


def _documents():
    from realm_tf.data.embedded import resolve_documents

    real = _real(WIKI)
    source = str(real or resolve_documents("embedded"))
    opened = gzip.open(source, "rt", encoding="utf-8") if source.endswith(".gz") else open(source, encoding="utf-8")
    with opened as file:
        documents = [json.loads(line) for line in file]
    for turn in itertools.count():
        for number, document in enumerate(documents):
            title = document["title"] + (f" ({turn})" if turn else "")
            yield {"id": f"{turn}-{number}", "title": title, "text": document["text"]}


def make_blocks(folder, megabytes, max_block_length=288):
    """Publishes folder/blocks, cut from so many MB; returns the `BlockStore`."""
    from beam_jobs import split_blocks
    from realm_tf.data.blocks import BlockStore

    documents = folder / "documents.jsonl"
    write_documents(documents, megabytes)
    split_blocks.run(str(documents), str(folder / "blocks"), vocabulary(), max_block_length)
    return BlockStore(folder / "blocks")


def questions(count):
    """Questions of the embedded test set, repeated if they are too few."""
    from realm_tf.data.embedded import resolve

    with open(resolve("embedded:test"), encoding="utf-8") as file:
        texts = [json.loads(line)["question"] for line in file]
    return [texts[i % len(texts)] for i in range(count)]


def common_words(blocks, count):
    """Words of more than four letters that occur in many blocks, the most frequent first: answers that are found."""
    words, blocks_with = np.unique(
        [word for n in range(min(len(blocks), 500)) for word in set(blocks.text(n).split()) if _is_plain(word)],
        return_counts=True,
    )
    return [str(words[i]) for i in np.argsort(-blocks_with, kind="stable")[:count]]


def _is_plain(word):
    return len(word) > 4 and word.isascii() and word.isalpha()
