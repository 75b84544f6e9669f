"""Embedding at BERT-base's size, random weights."""

from benchmarks import rows
from benchmarks.paths import embed, embedding
from benchmarks.paths.embedding import Side  # noqa: F401 (this path's)

WORK = "blocks of real text of up to 288 pieces, 12 layers, hidden 768"
ROWS = (
    rows.Row("embed_base", WORK, "blocks a second", embed.PEERS, is_rate=True, precision="bfloat16", share_goal=0.6),
)


def make_inputs(folder, quick):
    """64 blocks; quick: 16."""
    return embedding.make_inputs(folder, rows.BASE, "embed_base", 16 if quick else 64)
