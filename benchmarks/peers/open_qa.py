"""transformers 4.57.6's RealmForOpenQA: answering, or with option train a fine-tuning step, a question at a time.

It takes no batches. Its fast tokenizer is used, which is what AutoTokenizer gives.
"""

import itertools
import json

import common
import lines
import numpy as np
import torch
import transformers

ANSWERED = 8  # questions of one measurement


class Side:
    """The model over the blocks of questions.json."""

    def __init__(self):
        folder, facts, options = common.arguments()
        given = json.loads((folder / "questions.json").read_text())
        self._tokenizer = transformers.RealmTokenizerFast(given["vocabulary_file"])
        records = np.array([text.encode() for text in given["blocks"]], object)
        settings = common.config(
            facts,
            num_block_records=facts["blocks"],
            reader_beam_size=facts["read"],
            searcher_beam_size=facts["wide"],
            reader_seq_len=facts["reader_length"],
            max_span_width=facts["widths"],
            span_hidden_size=facts["span_hidden"],
        )
        retriever = transformers.RealmRetriever(records, self._tokenizer)
        self._model = transformers.RealmForOpenQA(settings, retriever).train(options["train"])
        self._model.block_emb = torch.from_numpy(np.load(folder / "embeddings.npy"))
        parameters = self._model.parameters()
        self._optimizer = torch.optim.AdamW(parameters, lr=1e-6) if options["train"] else None
        self._questions = itertools.cycle(zip(given["questions"], given["answers"], strict=True))
        self.facts = common.versions()

    def measure(self, **_):
        if self._optimizer:
            return lines.timed(lambda: self._learn(*next(self._questions)))
        asked = [next(self._questions)[0] for _ in range(ANSWERED)]
        return lines.each_timed([lambda q=q: self._answer(q) for q in asked])

    def _answer(self, question):
        with torch.inference_mode():
            output = self._model(**self._tokenizer([question], return_tensors="pt"))
        return self._tokenizer.decode(output.predicted_answer_ids)

    def _learn(self, question, answer):
        ids = self._tokenizer([answer], add_special_tokens=False).input_ids
        loss = self._model(**self._tokenizer([question], return_tensors="pt"), answer_ids=ids).reader_output.loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(loss)


if __name__ == "__main__":
    lines.serve(Side)
