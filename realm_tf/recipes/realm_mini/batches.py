"""Batches of reading examples: groups of passages for a question, of like lengths, so that little padding is read.

NumPy alone: the same batches train on TensorFlow and, elsewhere, on JAX.
"""

import dataclasses

import numpy as np

from realm_tf.data.inputs import BUCKET
from realm_tf.recipes.realm_mini.example_arrays import MAX_SPAN_WIDTH, Examples

MAX_QUESTION = 40  # word pieces of a question, special tokens not counted


@dataclasses.dataclass(frozen=True)
class Lesson:
    """How examples become groups.

    passages: P, of a group. Positions after the first, the gold passage, are hard negatives.
    unanswerable: share of the groups whose gold passage is left out, so that "no answer" is right.
    pieces: word pieces of a batch, padding included.
    max_length: J at most; of a longer gold passage a window around the answer is read.
    bucket: J is a multiple of it, or `max_length`: the coarser, the fewer shapes and the more padding.
    """

    passages: int
    unanswerable: float
    pieces: int
    max_length: int
    bucket: int = BUCKET


class ReadingBatches:
    """Batches of one lesson, a function of (seed, step).

    Examples of an epoch are shuffled, cut into chunks, sorted by length within each and divided into batches; the
    batches of a chunk come in random order. A batch has an even number of groups.

    Args:
      examples: `Examples`. lesson: `Lesson`. cls_id, sep_id: of the vocabulary. seed: int.
    """

    def __init__(self, examples: Examples, lesson: Lesson, cls_id: int, sep_id: int, seed: int):
        self._examples, self._lesson, self._seed = examples, lesson, seed
        self._cls_id, self._sep_id = cls_id, sep_id
        self._passage_lengths = np.diff(examples.passage_bounds)
        enough = (examples.negatives >= 0).sum(axis=1) >= lesson.passages - 1
        self._usable = np.flatnonzero(enough & (examples.gold >= 0))
        self._plans = {0: self._make_plan(0)}
        # Epochs mix lengths differently and differ by a batch or so: each counts as many as the first.
        self._per_epoch = len(self._plans[0])

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a step, counted from 0.

        Returns: token_ids, segment_ids int32 [G * P, J], groups of P rows one after the other; span_positive float32
          [G * P, J, W]; has_answer float32 [G], 0 where "no answer" is right.
        """
        epoch, number = divmod(step, self._per_epoch)
        if epoch not in self._plans:
            self._plans = {epoch: self._make_plan(epoch)}
        plan = self._plans[epoch]
        rng = np.random.default_rng([self._seed, 11, epoch, number])
        return self._build(*plan[number % len(plan)], rng)

    def shapes(self) -> dict[int, tuple[int, float]]:
        """{J: (a step with batches of that width, their share)} of the first epoch."""
        widths = [width for _, width in self._make_plan(0)]
        return {width: (widths.index(width), widths.count(width) / len(widths)) for width in sorted(set(widths))}

    def _make_plan(self, epoch):
        rng = np.random.default_rng([self._seed, 12, epoch])
        order, plan = rng.permutation(self._usable), []
        lengths = self._lengths(order)
        chunk = max(4096, self._lesson.pieces // 4)  # examples: dozens of batches, however large one is
        for first in range(0, len(order), chunk):
            of_chunk, of_lengths = order[first : first + chunk], lengths[first : first + chunk]
            by_length = np.argsort(of_lengths, kind="stable")[::-1]
            done, batches = 0, []
            while done < len(by_length):
                width = _bucket(of_lengths[by_length[done]], self._lesson)
                size = max(1, self._lesson.pieces // (width * self._lesson.passages * 2)) * 2
                taken = by_length[done : done + size]
                if len(taken) == size:
                    batches.append((of_chunk[taken], width))
                done += size
            plan += [batches[i] for i in rng.permutation(len(batches))]
        return plan

    def _lengths(self, chosen):
        """Word pieces of the longest input of each group."""
        examples, lesson = self._examples, self._lesson
        questions = np.minimum(np.diff(examples.question_bounds)[chosen], MAX_QUESTION)
        longest = self._passage_lengths[examples.gold[chosen]]
        if lesson.passages > 1:
            others = examples.negatives[chosen]
            longest = np.maximum(longest, np.where(others >= 0, self._passage_lengths[others], 0).max(axis=1))
        return np.minimum(questions + longest + 3, lesson.max_length)

    def _build(self, chosen, width, rng):
        examples, passages = self._examples, self._lesson.passages
        ids = np.zeros((len(chosen), passages, width), np.int32)
        segments = np.zeros_like(ids)
        positive = np.zeros((len(chosen), passages, width, MAX_SPAN_WIDTH), np.float32)
        has_answer = np.ones(len(chosen), np.float32)
        for g, example in enumerate(chosen):
            question = _part(examples.question_ids, examples.question_bounds, example)[:MAX_QUESTION]
            room = width - len(question) - 3
            others = examples.negatives[example]
            others = others[others >= 0]
            read = [-1] * passages
            is_empty = rng.random() < self._lesson.unanswerable and len(others) >= passages
            count = passages if is_empty else passages - 1
            picked = rng.choice(others, count, replace=False) if count else []
            read = list(picked) if is_empty else [examples.gold[example], *picked]
            has_answer[g] = 0.0 if is_empty else 1.0
            for p, passage in enumerate(read):
                body = _part(examples.passage_ids, examples.passage_bounds, passage)
                spans, first = np.zeros((0, 2), np.int64), 0
                if p == 0 and not is_empty:
                    spans = examples.spans[examples.span_bounds[example] : examples.span_bounds[example + 1]]
                    first = self._window_start(len(body), spans, room, rng)
                self._write(ids[g, p], segments[g, p], positive[g, p], question, body[first:][:room], spans - first)
            if not positive[g].any():
                has_answer[g] = 0.0
        shape = (-1, width)
        return {
            "token_ids": ids.reshape(shape),
            "segment_ids": segments.reshape(shape),
            "span_positive": positive.reshape(-1, width, MAX_SPAN_WIDTH),
            "has_answer": has_answer,
        }

    def _window_start(self, length, spans, room, rng):
        """The first piece of a window that holds one of the answers, drawn at random; 0 where all is read."""
        if length <= room:
            return 0
        start, end = spans[rng.integers(len(spans))]
        low, high = max(0, end - room), min(start, length - room)
        return int(rng.integers(low, high + 1))

    def _write(self, ids, segments, positive, question, body, spans):
        head = len(question) + 2
        ids[0], ids[1 : head - 1], ids[head - 1] = self._cls_id, question, self._sep_id
        ids[head : head + len(body)] = body
        ids[head + len(body)] = self._sep_id
        segments[head : head + len(body) + 1] = 1
        for start, end in spans:
            if start >= 0 and end <= len(body):
                positive[head + start, end - start - 1] = 1.0


def _bucket(length, lesson):
    return int(min(-(-int(length) // lesson.bucket) * lesson.bucket, lesson.max_length))


def _part(flat, bounds, number):
    return flat[bounds[number] : bounds[number + 1]]
