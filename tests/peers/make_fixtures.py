"""What transformers 4.57.6 computes with the tiny models of tiny_folders.py: inputs, outputs, gradients.

  python tests/peers/make_fixtures.py --output=tests/peers/fixtures
  python tests/peers/make_fixtures.py --answer=FOLDER --output=DIR     # a RealmForOpenQA folder with questions.json

Runs in the environment of requirements.txt, without realm_tf and TensorFlow. Each file holds in/..., out/..., and
grad/<parameter>, all from one forward and backward pass on the CPU in float32.
"""

import argparse
import json
import pathlib
import tempfile
import time

import numpy as np
import tiny_folders
import torch
import transformers
from safetensors.numpy import save_file

VERSION = "4.57.6"
CLS, SEP, MASK = 2, 3, 4
OPEN_QA_SEED = 5


def sequences(rng, lengths, length):
    """(ids, segments, attention) of `[CLS] a [SEP] b [SEP]`; lengths: pairs; b may be None. int64 [R, length]."""
    ids, segments = np.zeros((len(lengths), length), np.int64), np.zeros((len(lengths), length), np.int64)
    for row, (first, second) in enumerate(lengths):
        pieces = [CLS, *rng.integers(5, 61, first), SEP]
        end = len(pieces)
        if second is not None:
            pieces += [*rng.integers(5, 61, second), SEP]
        ids[row, : len(pieces)], segments[row, end : len(pieces)] = pieces, 1
    return ids, segments, (ids > 0).astype(np.int64)


def load(architecture, folder, **kwargs):
    """The peer's model of a folder. Stops if one of its parameters was not in the file, or the other way round."""
    model, info = getattr(transformers, architecture).from_pretrained(folder, output_loading_info=True, **kwargs)
    wrong = {name: names for name, names in info.items() if names}
    # Of two names for one tensor, transformers calls the one "unexpected" or "missing": these are tied.
    wrong = {k: [n for n in names if "cls.predictions.decoder" not in n] for k, names in wrong.items()}
    assert not any(wrong.values()), (architecture, wrong)
    return model.eval()


def tensors(**arrays):
    """Torch tensors of NumPy arrays."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def record(model, loss, inputs, outputs):
    """The arrays of one fixture."""
    model.zero_grad()
    loss.backward()
    gradients = {f"grad/{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = {f"in/{name}": value for name, value in inputs.items()}
    found |= {f"out/{name}": value for name, value in outputs.items()} | gradients
    return {name: np.ascontiguousarray(torch.as_tensor(value).detach().numpy()) for name, value in found.items()}


def embedder(folder):
    """RealmEmbedder: the sum of its embeddings, weighted at random."""
    model, rng = load("RealmEmbedder", folder), np.random.default_rng(1)
    ids, segments, attention = sequences(rng, [(9, None), (4, 7), (0, 0), (3, 10)], 16)
    weights = rng.standard_normal((4, 8)).astype(np.float32)
    out = model(**tensors(input_ids=ids, token_type_ids=segments, attention_mask=attention)).projected_score
    inputs = {"ids": ids, "segments": segments, "weights": weights}
    return record(model, (out * torch.from_numpy(weights)).sum(), inputs, {"embeddings": out})


def scorer(folder):
    """RealmScorer with two towers: relevance scores of 2 queries and 3 candidates each."""
    towers = transformers.RealmEmbedder(transformers.RealmConfig.from_pretrained(folder))
    model, rng = load("RealmScorer", folder, query_embedder=towers), np.random.default_rng(2)
    query_ids, _, query_attention = sequences(rng, [(6, None), (10, None)], 12)
    ids, segments, attention = sequences(rng, [(2, 8), (0, 0), (5, 6), (1, 11), (3, 3), (4, 9)], 16)
    weights = rng.standard_normal((2, 3)).astype(np.float32)
    candidates = tensors(
        candidate_input_ids=ids.reshape(2, 3, 16),
        candidate_token_type_ids=segments.reshape(2, 3, 16),
        candidate_attention_mask=attention.reshape(2, 3, 16),
    )
    out = model(**tensors(input_ids=query_ids, attention_mask=query_attention), **candidates).relevance_score
    inputs = {"query_ids": query_ids, "ids": ids, "segments": segments, "weights": weights}
    return record(model, (out * torch.from_numpy(weights)).sum(), inputs, {"scores": out})


def knowledge_augmented_encoder(folder):
    """RealmKnowledgeAugEncoder: the marginal loss of 2 queries with 3 candidates each, the last the null document."""
    model, rng = load("RealmKnowledgeAugEncoder", folder), np.random.default_rng(3)
    masks = [[2, 3, 7], [5]]
    queries, _, _ = sequences(rng, [(9, None), (7, None)], 11)
    labels, mlm_mask = np.full((2, 24), -100), np.zeros((2, 24), np.int64)
    for b, positions in enumerate(masks):
        labels[b, positions], mlm_mask[b, positions] = queries[b, positions], 1
        queries[b, positions] = MASK
    ids, segments = np.zeros((2, 3, 24), np.int64), np.zeros((2, 3, 24), np.int64)
    for b in range(2):
        query = queries[b][queries[b] > 0]
        for k, length in enumerate([11, 6, 0]):
            joint = [*query, *rng.integers(5, 61, length), SEP]
            ids[b, k, : len(joint)], segments[b, k, len(query) : len(joint)] = joint, 1
    relevance = torch.tensor(rng.standard_normal((2, 3)), dtype=torch.float32, requires_grad=True)
    out = model(
        **tensors(input_ids=ids, token_type_ids=segments, attention_mask=(ids > 0).astype(np.int64)),
        **tensors(labels=labels, mlm_mask=mlm_mask),
        relevance_score=relevance,
    )
    inputs = {"ids": ids, "segments": segments, "labels": labels, "mlm_mask": mlm_mask, "relevance": relevance}
    found = record(model, out.loss, inputs, {"loss": out.loss, "logits": out.logits[:, :11]})
    return found | {"grad_of/relevance": relevance.grad.numpy()}


def reader(folder):
    """RealmReader: 3 blocks read of 7 retrieved, of which some have an answer; two gold spans in one block."""
    model, rng = load("RealmReader", folder), np.random.default_rng(4)
    ids, segments, attention = sequences(rng, [(5, 12), (5, 8), (5, 3)], 24)
    is_special = np.isin(ids, [0, CLS, SEP])
    relevance = torch.tensor(rng.standard_normal(7), dtype=torch.float32, requires_grad=True)
    starts, ends = np.full((7, 2), -1), np.full((7, 2), -1)
    starts[0], ends[0], starts[1, 0], ends[1, 0] = [9, 12], [10, 15], 8, 8
    has_answers = np.array([True, True, False, False, False, True, False])
    logits = []
    model.qa_outputs.register_forward_hook(lambda module, args, out: logits.append(out))
    out = model(
        **tensors(input_ids=ids, token_type_ids=segments, attention_mask=attention),
        **tensors(block_mask=(segments == 1) & ~is_special, has_answers=has_answers),
        **tensors(start_positions=starts, end_positions=ends),
        relevance_score=relevance,
    )
    inputs = {"ids": ids, "segments": segments, "relevance": relevance}
    inputs |= {"starts": starts, "ends": ends, "has_answers": has_answers}
    outputs = {"loss": out.loss, "retriever_loss": out.retriever_loss, "reader_loss": out.reader_loss}
    outputs |= {"block": out.block_idx, "start": out.start_pos, "end": out.end_pos}
    # The relevance scores are added to the span logits in place.
    outputs |= {"span_logits": logits[0][0], "span_starts": logits[0][1], "span_ends": logits[0][2]}
    return record(model, out.loss, inputs, outputs) | {"grad_of/relevance": relevance.grad.numpy()}


class OpenQA:
    """RealmForOpenQA over texts: one question at a time, as it takes them."""

    def __init__(self, folder, block_texts):
        vocabulary = pathlib.Path(folder) / "vocab.txt"
        self._tokenizer = transformers.RealmTokenizer(str(vocabulary))
        records = np.array([text.encode() for text in block_texts], object)
        retriever = transformers.RealmRetriever(records, self._tokenizer)
        self.model = load("RealmForOpenQA", folder, retriever=retriever)
        self._rows, self._logits = [], []
        call = type(retriever).__call__

        def remember(retrieved, *args, **kwargs):
            self._rows.append(retrieved.numpy())
            return call(retriever, retrieved, *args, **kwargs)

        self.model.retriever = remember
        self.model.reader.qa_outputs.register_forward_hook(lambda module, args, out: self._logits.append(out[0]))

    def answer(self, question):
        """{"row", "start", "end" (positions in the joint input), "probability", "text", "rows", "logit"}."""
        with torch.no_grad():
            encoded = self._tokenizer([question], return_tensors="pt")
            out = self.model(**encoded)
        found, logits = out.reader_output, self._logits.pop()
        rows = self._rows.pop()
        best = logits.max()
        return {
            "row": int(rows[found.block_idx]),
            "start": int(found.start_pos),
            "end": int(found.end_pos),
            "text": self._tokenizer.decode(out.predicted_answer_ids),
            "logit": float(best),
            "probability": float(torch.exp(best - torch.logsumexp(logits.reshape(-1), 0))),
            "rows": rows.tolist(),
        }

    def loss(self, question, answers):
        """The fine-tuning loss, over the wide beam: the model is put into training mode (its dropout is 0)."""
        self.model.train()
        ids = self._tokenizer(answers, add_special_tokens=False).input_ids
        return self.model(**self._tokenizer([question], return_tensors="pt"), answer_ids=ids).reader_output


def early_answers(blocks, row, count=2, cut=25):
    """Answers in a block that no block has only after its first words.

    The peer looks for answers in what its cut to reader_seq_len leaves of a block; the released code and this project
    look in the whole block. With these answers both see the same.
    """
    words = [block.split() for block in blocks]
    pairs = [" ".join(words[row][i : i + 2]) for i in range(0, cut - 1, 2)]
    early = [" ".join(block[:cut]) + " " for block in words]
    seen = [
        pair
        for pair in [*pairs, *words[row][:cut]]
        if not any(
            f" {pair} " in f" {block} " and f" {pair} " not in f" {head} "
            for block, head in zip(blocks, early, strict=True)
        )
    ]
    return [seen[0], seen[-1]][:count]


def open_qa(folder, output):
    """RealmForOpenQA: answers of 8 questions, and the loss of one with an answer, with its gradients."""
    blocks = tiny_folders.texts(12, 44, 61, OPEN_QA_SEED)
    questions = tiny_folders.texts(8, 8, 61, OPEN_QA_SEED + 1)
    peer = OpenQA(folder, blocks)
    answered = [peer.answer(question) for question in questions]
    answers = early_answers(blocks, answered[0]["rows"][0])
    out = peer.loss(questions[0], answers)
    values = {"loss": out.loss, "retriever_loss": out.retriever_loss, "reader_loss": out.reader_loss}
    found = record(peer.model, out.loss, {}, values)
    text = {"blocks": blocks, "questions": questions, "answered": answered, "gold": answers}
    (output / "RealmForOpenQA.json").write_text(json.dumps(text, indent=1) + "\n")
    return found


def answer_folder(folder, output):
    """Answers questions.json ({"blocks", "questions"}) of a folder one by one; writes answers.json with the seconds."""
    given = json.loads((folder / "questions.json").read_text())
    peer = OpenQA(folder, given["blocks"])
    peer.answer(given["questions"][0])
    started = time.perf_counter()
    answered = [peer.answer(question) for question in given["questions"]]
    value = {"seconds": time.perf_counter() - started, "answered": answered}
    (output / "answers.json").write_text(json.dumps(value) + "\n")


def main():
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--answer", type=pathlib.Path)
    given = parser.parse_args()
    assert transformers.__version__ == VERSION, f"transformers {transformers.__version__} is installed, not {VERSION}"
    transformers.logging.set_verbosity_error()
    given.output.mkdir(parents=True, exist_ok=True)
    if given.answer:
        answer_folder(given.answer, given.output)
        return
    makers = (embedder, scorer, knowledge_augmented_encoder, reader, lambda folder: open_qa(folder, given.output))
    with tempfile.TemporaryDirectory() as scratch:
        for architecture, maker in zip(tiny_folders.ARCHITECTURES, makers, strict=True):
            folder = pathlib.Path(scratch) / architecture
            tiny_folders.write(folder, architecture)
            save_file(maker(folder), given.output / f"{architecture}.safetensors")


if __name__ == "__main__":
    main()
