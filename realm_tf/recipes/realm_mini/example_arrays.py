"""The arrays that training reads: questions, the passages that answer them with their spans, and hard negatives.

NumPy alone, all in word pieces: one .npz, which needs no tokenizer and no corpus and may be carried to a machine with
an accelerator. `examples` builds them.
"""

import dataclasses

import numpy as np

MAX_SPAN_WIDTH = 16  # word pieces of a gold span
NEGATIVES = 8  # kept for an example


@dataclasses.dataclass(frozen=True)
class Examples:
    """E examples over P passages.

    question_ids, question_bounds: word pieces of the questions without special tokens, flat; bounds int64 [E + 1].
    passage_ids, passage_bounds: those of the passages' bodies; bounds int64 [P + 1].
    gold: int32 [E], the passage that answers, -1 where none does.
    spans, span_bounds: (first, end) pieces of the answers in the gold passage, int32 [S, 2]; bounds int64 [E + 1].
    negatives: int32 [E, NEGATIVES], passages without an answer, best first; -1 where there are fewer.
    sets: int8 [E], the position of the example's set in `set_names`.
    """

    question_ids: np.ndarray
    question_bounds: np.ndarray
    passage_ids: np.ndarray
    passage_bounds: np.ndarray
    gold: np.ndarray
    spans: np.ndarray
    span_bounds: np.ndarray
    negatives: np.ndarray
    sets: np.ndarray
    set_names: np.ndarray

    def __len__(self):
        return len(self.gold)

    def save(self, path: str) -> None:
        """Writes one compressed .npz file."""
        with open(path, "wb") as file:  # under this very name: NumPy would add .npz to another
            np.savez_compressed(file, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str) -> "Examples":
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})


def join(parts: list[Examples]) -> Examples:
    """Several sets of examples as one."""
    names = sorted({name for part in parts for name in part.set_names.tolist()})
    shifts = np.cumsum([0] + [len(part.passage_bounds) - 1 for part in parts])

    def bounds(key):
        ends = np.cumsum([0] + [getattr(part, key)[-1] for part in parts])
        joined = [getattr(part, key)[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
        return np.concatenate([*joined, ends[-1:]])

    def shifted(key):
        values = [(getattr(part, key), shift) for part, shift in zip(parts, shifts[:-1], strict=True)]
        return np.concatenate([np.where(value >= 0, value + shift, -1) for value, shift in values]).astype(np.int32)

    flat = ("question_ids", "passage_ids", "spans")
    return Examples(
        **{key: np.concatenate([getattr(part, key) for part in parts]) for key in flat},
        **{key: bounds(key) for key in ("question_bounds", "passage_bounds", "span_bounds")},
        gold=shifted("gold"),
        negatives=shifted("negatives"),
        sets=np.concatenate([np.searchsorted(names, part.set_names)[part.sets] for part in parts]).astype(np.int8),
        set_names=np.array(names),
    )
