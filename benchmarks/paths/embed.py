"""Embedding at MiniLM's size."""

from benchmarks import rows
from benchmarks.paths import embedding
from benchmarks.paths.embedding import Side  # noqa: F401 (this path's)

WORK = "blocks of real text of up to 288 pieces, 6 layers, hidden 384"
PEERS = (
    rows.Peer("transformers, padded, float32", "embed.py", {"dtype": "float32", "sorted": False}, goal=5.0),
    rows.Peer("transformers, sorted, bfloat16", "embed.py", {"dtype": "bfloat16", "sorted": True}, goal=3.0),
)
ROWS = (rows.Row("embed", WORK, "blocks a second", PEERS, is_rate=True, precision="bfloat16", share_goal=0.6),)


def make_inputs(folder, quick):
    """256 blocks; quick: 64."""
    return embedding.make_inputs(folder, rows.MINILM, "embed", 64 if quick else 256)
