"""What a path tells of itself: its rows, and of each the work, the unit, the peers and the goals.

A module of `benchmarks.paths` has
  ROWS                        tuple of `Row`
  make_inputs(folder, quick)  writes what both sides read into a folder, once; gives a JSON dict of facts, among them
                              "flops", {name of row: needed FLOPs of one unit of work}, where that is to be told
  Side(folder)                ours: `facts` and `measure(**options)`, see `benchmarks.peers.lines.serve`
and imports no TensorFlow before one of these is called.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable

FACTS = "facts.json"
SMALL = {"layers": 2, "hidden": 128, "heads": 2, "ffn": 512, "projection": 128}  # realm-mini's, ORQA's projection
MINILM = {"layers": 6, "hidden": 384, "heads": 12, "ffn": 1536, "projection": 128}
BASE = {"layers": 12, "hidden": 768, "heads": 12, "ffn": 3072, "projection": 128}
BERT_VOCABULARY = 30522


@dataclasses.dataclass(frozen=True)
class Peer:
    """What ours is compared with.

    name: as the table has it. script: below benchmarks/peers, run by the peers' Python as `script FOLDER OPTIONS`.
    options: a JSON dict for it. goal: the ratio wanted of ours to it; 0 for none. rate: instead of a script, facts ->
    units of work a second, where the figure is computed, not measured.
    """

    name: str
    script: str = ""
    options: dict = dataclasses.field(default_factory=dict)
    goal: float = 0.0
    rate: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table, one for each peer.

    work: one unit of it, in words. unit: of the figures. scale: figures are `scale` times seconds a unit of work, or
    units of work a second where `is_rate`. precision: whose ceiling the share is of, "float32" or "bfloat16"; empty
    where no share is told. options: of the request to measure, for both sides. share_goal: of the ceiling.
    """

    path: str
    work: str
    unit: str
    peers: tuple
    is_rate: bool = False
    scale: float = 1.0
    precision: str = ""
    options: dict = dataclasses.field(default_factory=dict)
    share_goal: float = 0.0

    def figure(self, work_a_second):
        """What the table shows for a rate."""
        return work_a_second * self.scale if self.is_rate else self.scale / work_a_second


def facts(folder):
    """What `make_inputs` gave."""
    return json.loads((pathlib.Path(folder) / FACTS).read_text())


def encoder_config(sizes, **fields):
    """The `EncoderConfig` of random weights of these sizes."""
    from realm_tf.config import EncoderConfig

    return EncoderConfig(
        init="random",
        num_layers=sizes["layers"],
        hidden_dim=sizes["hidden"],
        num_heads=sizes["heads"],
        intermediate_dim=sizes["ffn"],
        projection_dim=sizes["projection"],
        **fields,
    )
