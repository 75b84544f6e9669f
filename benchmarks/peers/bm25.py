"""bm25s as it comes: its own tokenizer without stop words, Lucene's variant, all in memory."""

import json
import logging
import pathlib
import sys

import bm25s
import lines


class Side:
    """The blocks of questions.json."""

    def __init__(self):
        given = json.loads((pathlib.Path(sys.argv[1]) / "questions.json").read_text())
        logging.getLogger("bm25s").setLevel(logging.WARNING)
        self._k, self._questions = json.loads(sys.argv[2])["k"], given["questions"]
        self._model = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
        self._model.index(self._tokens(given["blocks"]), show_progress=False)
        self.facts = {"bm25s": bm25s.__version__}

    def _tokens(self, texts):
        return bm25s.tokenize(texts, stopwords=None, show_progress=False)

    def _search(self):
        self._model.retrieve(self._tokens(self._questions), k=self._k, show_progress=False)

    def measure(self):
        answer = lines.timed(self._search)
        return answer | {"work": answer["work"] * len(self._questions)}


if __name__ == "__main__":
    lines.serve(Side)
