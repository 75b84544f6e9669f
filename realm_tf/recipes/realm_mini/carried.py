"""What training needs on a machine with an accelerator, in one folder: NumPy arrays and a Hugging Face folder.

There is no TensorFlow there, no tokenizer and no corpus. `pack` runs where they are; what opens the folder runs
anywhere. FOLDER/start holds the encoder in float16, windows_train.npz, windows_dev.npz and groups_train.npz the
examples, masked.npz the text that is masked.
"""

import dataclasses
import os
import pathlib
import shutil

import numpy as np
from safetensors.numpy import save_file

from realm_tf.data.ragged import bounds_of
from realm_tf.errors import UserError
from realm_tf.interop import hugging_face

EXAMPLES = ("windows_train.npz", "windows_dev.npz", "groups_train.npz")
START, MASKED = "start", "masked.npz"
BYTES_A_PIECE = 1.5  # of masked text, compressed, bounds and spans included: 1.44 were seen on wiki2015


@dataclasses.dataclass(frozen=True)
class MaskedText:
    """Text of N blocks with S salient spans and what is asked of the tokenizer: all that `ContextRows` reads.

    It stands in for all three: `ContextRows(text, text, text, ...)`.

    body_token_ids: int16 [P]; body_bounds: int64 [N + 1]. documents: int32 [N], numbers as in the block store.
    flat_spans: int32 [S, 2], first piece and end, relative to the body; span_bounds: int64 [N + 1].
    is_continuation: bool [V]. cls_id, sep_id, mask_id: ids of the vocabulary.
    """

    body_token_ids: np.ndarray
    body_bounds: np.ndarray
    documents: np.ndarray
    flat_spans: np.ndarray
    span_bounds: np.ndarray
    is_continuation: np.ndarray
    cls_id: int
    sep_id: int
    mask_id: int

    def __len__(self):
        return len(self.documents)

    def body_lengths(self) -> np.ndarray:
        """Word pieces of every body: int64 [N]."""
        return np.diff(self.body_bounds)

    @classmethod
    def of_stores(cls, blocks, spans, tokenizer, max_pieces: int) -> "MaskedText":
        """The first blocks of a `BlockStore` with at most so many pieces, and their spans of a `SalientSpanStore`."""
        bounds, span_bounds = np.asarray(blocks.body_bounds), np.asarray(spans.span_bounds)
        count = int(np.searchsorted(bounds, max_pieces, side="right")) - 1
        return cls(
            np.asarray(blocks.body_token_ids[: bounds[count]]).astype(np.int16),
            bounds[: count + 1],
            np.asarray(blocks.documents[:count]).astype(np.int32),
            np.asarray(spans.flat_spans[: span_bounds[count]]),
            span_bounds[: count + 1],
            tokenizer.is_continuation,
            tokenizer.cls_id,
            tokenizer.sep_id,
            tokenizer.mask_id,
        )

    def save(self, path: str) -> None:
        """Writes one compressed .npz file; bounds as lengths, spans as starts and widths, which take less."""
        starts, ends = self.flat_spans.astype(np.int32).reshape(-1, 2).T
        np.savez_compressed(
            path,
            body_token_ids=self.body_token_ids,
            body_lengths=np.diff(self.body_bounds).astype(np.uint16),
            documents=self.documents,
            span_starts=starts.astype(np.uint16),
            span_widths=(ends - starts).astype(np.uint16),
            span_counts=np.diff(self.span_bounds).astype(np.uint16),
            is_continuation=self.is_continuation,
            special_ids=np.array([self.cls_id, self.sep_id, self.mask_id]),
        )

    @classmethod
    def load(cls, path: str) -> "MaskedText":
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as a:
            starts, widths = a["span_starts"].astype(np.int32), a["span_widths"].astype(np.int32)
            return cls(
                a["body_token_ids"],
                bounds_of(a["body_lengths"]),
                a["documents"],
                np.stack([starts, starts + widths], axis=1),
                bounds_of(a["span_counts"]),
                a["is_continuation"],
                *a["special_ids"].tolist(),
            )


def pack(workdir: str, output: str, megabytes: float) -> dict[str, float]:
    """Puts what the recipe has prepared under `workdir` into `output`, a new folder.

    Masked text takes the room that examples and weights leave; the first articles are taken.

    Returns: {file: megabytes}, of 10^6 bytes. Raises: `UserError` for what is not prepared yet, or does not fit.
    """
    from realm_tf.data.blocks import BlockStore
    from realm_tf.data.salient import SalientSpanStore
    from realm_tf.text.tokenizer import Tokenizer

    require(workdir, (*EXAMPLES, START), "run the recipe's stages first: python -m realm_tf.recipes.realm_mini")
    os.makedirs(os.path.join(output, START), exist_ok=True)
    for name in EXAMPLES:
        shutil.copy(os.path.join(workdir, name), os.path.join(output, name))
    for name in ("config.json", "vocab.txt"):
        shutil.copy(os.path.join(workdir, START, name), os.path.join(output, START, name))
    weights = hugging_face.read_weights(os.path.join(workdir, START))
    halves = {name: np.ascontiguousarray(value, np.float16) for name, value in weights.items()}
    save_file(halves, os.path.join(output, START, "model.safetensors"))
    others = sum(megabytes_of(output).values()) - megabytes_of(output).get(MASKED, 0.0)
    room = int((megabytes - others) * 1e6 / BYTES_A_PIECE)
    if room < 100_000:
        raise UserError(f"examples and weights take {others:.1f} of {megabytes:g} MB: give --megabytes more")
    stores = BlockStore(os.path.join(workdir, "blocks")), SalientSpanStore(os.path.join(workdir, "queries"))
    tokenizer = Tokenizer(os.path.join(workdir, START, "vocab.txt"))
    MaskedText.of_stores(*stores, tokenizer, room).save(os.path.join(output, MASKED))
    sizes = megabytes_of(output)
    if sum(sizes.values()) > megabytes:
        raise UserError(f"{output} takes {sum(sizes.values()):.1f} MB, more than --megabytes={megabytes:g}")
    return sizes


def require(folder: str, names: tuple[str, ...], way_out: str) -> None:
    """Raises `UserError` naming the first of some files that a folder lacks."""
    for name in names:
        if not os.path.exists(os.path.join(folder, name)):
            raise UserError(f"{folder} has no {name}: {way_out}")


def megabytes_of(folder: str) -> dict[str, float]:
    """{path below the folder: 10^6 bytes} of all its files."""
    files = [path for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_size / 1e6 for path in files}
