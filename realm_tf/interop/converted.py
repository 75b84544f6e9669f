"""What a reader of another project's files hands over: the one form between all of them and `interop.convert`.

A reader is a module with two functions:
  recognise(folder) -> bool     whether the folder holds what the module reads; looks at names, opens no weights
  read(folder) -> Converted     raises `UserError`, one line, for what is broken, pickled or of another shape
`realm_tf.interop.convert.READERS` lists them; a folder that several recognise is read by each of them.

Names within a part are those of Hugging Face's BERT, whatever the source, and arrays are laid out as there: a dense
kernel is `weight` [out, in], a LayerNorm has `weight` (gamma) and `bias` (beta). They are float32.
  backbone    embeddings.{word,position,token_type}_embeddings.weight, embeddings.LayerNorm.*,
              encoder.layer.I.{attention.self.{query,key,value},attention.output.dense,attention.output.LayerNorm,
              intermediate.dense,output.dense,output.LayerNorm}.*, pooler.dense.*
  MLM head    cls.predictions.bias, cls.predictions.transform.{dense,LayerNorm}.* (the decoder is tied)
  projection  projection.{weight [D, H],bias}, projection_norm.{weight,bias}
  span head   span_dense.{weight [2S, H],bias}, span_norm.{weight,bias}, span_logit.{weight [1, S],bias}
"""

import dataclasses
from collections.abc import Callable

# {part: what it is made of}. "bert" is a plain encoder to start from; its head may be missing.
PARTS = {
    "block_embedder": ("backbone", "projection"),
    "query_embedder": ("backbone", "projection"),
    "reader": ("backbone", "MLM head"),
    "span_reader": ("backbone", "span head"),
    "bert": ("backbone", "MLM head"),
}


@dataclasses.dataclass(frozen=True)
class Converted:
    """What a folder held, under this project's names.

    kind: what it is upstream, for people and for the manifest, such as "RealmForOpenQA" or "TF1 hub module (embedder)".
    parts: {part: {name: float32 array}}; see above and `PARTS`. A shared tower is "block_embedder" alone; a checkpoint
      that holds only the question tower of a fine-tuned system (ORQA, RealmForOpenQA) gives "query_embedder" alone.
    settings: {section of `Config`: {field: value}}, what the checkpoint decides about a run, such as
      {"encoder": {"num_layers", "num_heads", "hidden_dim", "intermediate_dim", "max_sequence_length",
      "projection_dim", "projection_epsilon"}, "finetune": {"max_span_width", "span_hidden_dim"}}.
    vocabulary: path of the vocab.txt that belongs to it; None if the folder has none.
    block_embeddings: None, or something with `.shape` (N, D) whose slices [start:stop] are float32 rows, read when
      asked for: 13 million rows are never held at once.
    write_blocks: None, or a function (path, tokenizer) that publishes the block store of the folder's block records
      at `path`, `tokenizer` being the run's `Tokenizer`; row n is block n, as in `block_embeddings`.
    used: number of upstream variables that went into `parts` and `block_embeddings`.
    unused: {upstream name: why it is left out}.
    missing: {"part/name": what stands there instead}, for what the part has and the folder lacks.
    notes: sentences for people.
    source, kept, companions: what a writer needs to give the same folder back (Hugging Face's only; else empty): JSON
      values for the manifest, {upstream name: array} of unused tensors, and paths of small text files beside them.
    """

    kind: str
    parts: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    vocabulary: str | None = None
    block_embeddings: object = None
    write_blocks: Callable | None = None
    used: int = 0
    unused: dict = dataclasses.field(default_factory=dict)
    missing: dict = dataclasses.field(default_factory=dict)
    notes: tuple = ()
    source: dict = dataclasses.field(default_factory=dict)
    kept: dict = dataclasses.field(default_factory=dict)
    companions: tuple = ()
