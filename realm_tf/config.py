"""Every hyper-parameter of a run, one place: frozen dataclasses, made by a `configs/*.py`, overridden by `--set`."""

import dataclasses
import importlib.util
import pathlib

from realm_tf import config_checks
from realm_tf.errors import UserError
from realm_tf.overrides import fill_data_dir, overridden
from realm_tf.stored_dataclass import BEFORE, stored

MINI = "realm-mini"


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """What is read, and how it is cut into blocks."""

    # "embedded", or a file or folder of documents, several divided by commas. {data_dir} stands for --data_dir.
    input: str = "embedded"
    # Documents whose sentences pre-training masks, of the same forms; empty for those of `input`. REALM's best figures
    # came from text that is not in the knowledge corpus (CC-News, section 4.1).
    pretrain_input: str = ""
    # Words that `pretrain_input` begins with and `input` has: the first paragraphs of each of its documents, up to so
    # many words, are not masked. What is masked is then told elsewhere, not where it is from.
    pretrain_skip_words: int = 0
    # The first N documents only; 0 for all.
    max_documents: int = 0
    # Word pieces of a block, title and special tokens included (REALM section 4.1: 288).
    max_block_length: int = 288
    # ORQA drops "List of ...", "(disambiguation)" and the like.
    drop_list_pages: bool = True


@dataclasses.dataclass(frozen=True)
class QuestionSet:
    """Question files of one set; an empty path is a split that the set lacks."""

    name: str
    train: str = ""
    dev: str = ""
    test: str = ""
    # "string" or "regex" (CuratedTREC).
    answer_type: str = "string"
    # The first N training questions only; 0 for all.
    max_train: int = 0


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The retriever's BERT encoder, and the two embedders on it (REALM section 3.2). `ReaderConfig` starts from it."""

    # "realm-mini", "random", "hf:FOLDER" (config.json, model.safetensors, vocab.txt), or a keras-hub preset name.
    init: str = MINI
    # vocab.txt of retriever and reader; empty for the one that comes with `init`.
    vocabulary: str = ""
    # Sizes: used where `init` is "random"; num_layers also cuts a checkpoint to its lower layers (0 keeps all).
    num_layers: int = 0
    hidden_dim: int = 128
    num_heads: int = 2
    intermediate_dim: int = 512
    max_sequence_length: int = 512
    dropout: float = 0.1
    # "cls" (tanh-pooled [CLS], as released) or "mean" (over the pieces that are not padding); "" for what the weights'
    # folder says, and "cls" where it says nothing.
    pooling: str = ""
    # Segments of a block as the embedder sees it: "pair" (0 up to the first [SEP], then 1, as released) or "single" (0
    # everywhere, as sentence embedders are trained); "" for what the weights' folder says, else "pair".
    segments: str = dataclasses.field(default="", metadata={BEFORE: "pair"})
    projection_dim: int = 128
    share_embedders: bool = True
    # LayerNorm after the projection: 1e-12 in the published checkpoints, 1e-3 in modules trained by the released code.
    projection_epsilon: float = 1e-12
    # Initial gamma of that LayerNorm: relevance scores start within D * scale^2 of 0, so a smaller one than the
    # released 1 starts with a softer p(z|x), which a short warm start wants. Unused where the weights' folder brings a
    # projection of this width.
    projection_scale: float = 1.0
    # Keras dtype policy of the device path.
    dtype: str = "mixed_bfloat16"
    # Whether the whole training step is one XLA program, of one device; inputs then have the configured lengths always.
    # On CPUs it is slower than its parts, whose products of matrices are oneDNN's; a TPU compiles without it.
    jit_compile: bool = False


@dataclasses.dataclass(frozen=True)
class ReaderConfig:
    """What the reader's BERT encoder has of its own; the rest, and the vocabulary, are as in `EncoderConfig`."""

    # As `encoder.init`; empty for the same. realm-mini has weights for either.
    init: str = ""
    # 0: as many as the encoder, or where `init` names a checkpoint, all of its layers.
    num_layers: int = 0
    # Used where the weights are random; 0: as the encoder's.
    hidden_dim: int = 0
    num_heads: int = 0
    intermediate_dim: int = 0
    max_sequence_length: int = 0
    # Below 0: as the encoder's.
    dropout: float = -1.0


@dataclasses.dataclass(frozen=True)
class LengthConfig:
    """Word pieces of each input, special tokens included."""

    query: int = 64
    block: int = 288
    joint: int = 352
    # Question and block in the span reader (ORQA: 320).
    reader: int = 320
    question: int = 48


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW without bias correction, as BERT's (original.md 2.4)."""

    learning_rate: float = 3e-5
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    # 0: min(10000, max(100, steps / 10)), as released.
    warmup_steps: int = 0
    # Where the linear decay begins: "peak", at the end of the warm-up; "start", at step 0 underneath the warm-up, so
    # that the rate falls from 1 to 1 - warmup / steps where the warm-up ends (released, google-research/bert).
    decay_from: str = "peak"


@dataclasses.dataclass(frozen=True)
class WarmStartConfig:
    """Inverse cloze task (ORQA section 4; REALM section 3.4)."""

    steps: int = 1000
    batch_size: int = 64
    # How often the sentence is removed from its block.
    mask_rate: float = 0.9
    # The projection that training starts from: "random", or that of the weights' folder where it brings one; or
    # "principal", the principal directions of the corpus' pooled vectors, for an encoder that is a sentence embedder
    # already (then `pooling` is that embedder's).
    projection: str = "random"
    # Whether zero-shot recall is measured for the start too, at the price of an embedding pass over the corpus.
    measure_start: bool = True
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4)


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """REALM pre-training (sections 3.1 to 3.4)."""

    steps: int = 1000
    batch_size: int = 16
    # Parts that a batch is computed in, one after the other, with one update at the end (gradient accumulation): memory
    # of the activations falls accordingly, loss and gradients are the same. Divides batch_size.
    micro_batches: int = 1
    # Keep each encoder layer's input alone for the gradient and compute the layer again there (gradient checkpointing).
    recompute_layers: bool = False
    # k, the null document included.
    num_candidates: int = 8
    null_candidate: bool = True
    # "token": mean over masks of log sum_z p(z|x) p(y_j|z,x) (released code);
    # "span": log sum_z p(z|x) prod_j p(y_j|z,x) (paper).
    marginal: str = "token"
    # What is masked: "salient" spans; "token", "span" (SpanBERT) or "whole_word", at random (see text/masking.py).
    masking: str = "salient"
    # Share of a sentence's pieces that the random ones mask (BERT: 0.15); 0 for as many as the salient span has, so
    # that all schemes mask alike.
    mask_rate: float = 0.0
    # Masked pieces that are asked for.
    max_masks: int = 10
    # Salient spans of more pieces: "drop" leaves them out; "cut" masks them whole and asks for their first max_masks
    # pieces (released code). Both are counted.
    long_spans: str = "drop"
    # Weight of a second loss: the reader also points at the masked span in the candidates, with the span head and the
    # relevance scores as in fine-tuning (recurring span selection, Ram et al. 2021). Not in the paper, which is 0.
    span_weight: float = 0.0
    # Masked salient spans of a sentence: one, as released.
    spans_per_query: int = 1
    # What finds the salient spans: "rules", "keras:DIR" (realm_tf.train_tagger), "spacy:MODEL"; see docs/tagger.md.
    tagger: str = "rules"
    # "own": the block that x comes from is never a candidate (released code); "document": no block of its document is,
    # which is what short documents want, whose other blocks say who but not what; "none": all may be.
    exclude: str = "own"
    # From which share on of x's runs of four pieces, unmasked, a candidate that has them in its body is dropped: a
    # near-duplicate of the block that x comes from gives the masked span away too. 0 drops none (released code).
    exclude_overlap: float = 0.0
    # "background" (a process of its own), "inline" (the trainer waits every refresh_steps), "never".
    refresh: str = "background"
    # Whether a batch is masked, searched and laid out while the step before it runs. Changes no result.
    prefetch: bool = True
    # Checkpoints kept, the newest ones; the best state has a place of its own.
    keep_checkpoints: int = 2
    # Steps between two published embedders.
    publish_steps: int = 500
    # Steps between two held-out evaluations.
    eval_steps: int = 250
    eval_batches: int = 8
    # Every so many evaluations without a better held-out utility training ends; 0: it runs its steps.
    patience: int = 0
    # What is published at the end: "last", or "best", the state with the best held-out utility.
    select: str = "last"
    # Every so many published embedders the index is refreshed: 1, or more for a stale index (REALM table 2 has 30).
    refresh_every: int = 1
    # Steps that the index may be behind the batch it serves before a warning is given; 0: four refreshes' worth.
    warn_lag_steps: int = 0
    # Steps of lag at which training stops, its state kept, until somebody sees to the refresher; 0: never.
    stop_lag_steps: int = 0
    # Learning rates of the retriever's and of the reader's own parameters: factors on the schedule, 0 freezes.
    retriever_rate: float = 1.0
    reader_rate: float = 1.0
    # Steps for which the retriever is held: its moments gather, its parameters stay, while the reader learns to use
    # what it is given. A reader that cannot yet does not reward a retriever, it destroys it.
    retriever_hold_steps: int = 0
    optimizer: OptimizerConfig = OptimizerConfig()


@dataclasses.dataclass(frozen=True)
class IndexConfig:
    """MIPS index."""

    # "scann"; "exact", for small corpora or an accelerator; "ivf", in stock TensorFlow operations only. docs/index.md.
    kind: str = "scann"
    # Versions kept on disk.
    keep: int = 2
    # Of what follows, 0 and "" are derived from the number of blocks (retrieval/settings.py).
    # Leaves of ScaNN's tree (a shard), or lists of "ivf".
    leaves: int = 0
    # How many of them a query searches.
    leaves_searched: int = 0
    # Blocks that ScaNN's codes choose for re-scoring with their vectors, beside two for each that is asked for.
    rescored: int = 0
    # How those vectors are kept: "float32", "float16", "bfloat16" or "int8". "exact" has "float32", or "bfloat16" with
    # re-scoring in float32.
    precision: str = ""
    # Blocks that the tree and the codes are learnt from.
    training_sample: int = 0
    # Dimensions that share one of ScaNN's 4-bit codes.
    dimensions_per_code: int = 2
    # Anisotropic quantization: how much the error along a vector counts (Guo et al. 2020, T = 0.2).
    anisotropic_threshold: float = 0.2
    # Blocks of one ScaNN searcher at most; a larger corpus has several in one graph, built one after the other.
    shard_blocks: int = 4_000_000
    # An index that finds less of the best `recall_k` blocks of sampled queries is strengthened, or not published.
    recall_floor: float = 0.98
    recall_k: int = 5
    # Queries of that check.
    check_queries: int = 300


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """Open-domain QA (REALM section 3.1, ORQA)."""

    steps: int = 1000
    batch_size: int = 8
    # Candidates of the retriever's loss term (ORQA: 5,000), and blocks read.
    retriever_beam: int = 5000
    reader_beam: int = 5
    # Where no block read holds an answer, training reads one that does in place of the last: the best-scored of the
    # wide beam, else the question's own context. Questions that have neither are left out. False: as released.
    ensure_positive: bool = dataclasses.field(default=True, metadata={BEFORE: False})
    # As pretrain.recompute_layers.
    recompute_layers: bool = False
    max_span_width: int = 10
    span_hidden_dim: int = 256
    # What makes a block or span an answer to learn from: "tokens", whole words of normalised pieces; "substring", the
    # raw string anywhere in the block and its pieces anywhere in a word (released code).
    has_answer: str = "tokens"
    # An answer's probability is the sum over the spans with its text (REALM section 3.1), or that of the best span
    # alone (released code).
    add_up_spans: bool = True
    # What of a pre-trained system goes back to its state before pre-training: "none", "retriever" or "encoder" (the
    # reader's): REALM table 2.
    reset: str = "none"
    # Learning rates of the query embedder and of the reader: factors on the schedule, 0 freezes.
    retriever_rate: float = 1.0
    reader_rate: float = 1.0
    eval_steps: int = 200
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-5)


@dataclasses.dataclass(frozen=True)
class TaggerConfig:
    """The tagger of salient spans (REALM section 3.4), which is trained once and serves many runs."""

    encoder: EncoderConfig = EncoderConfig()
    steps: int = 400
    # Word pieces of a batch, padding included.
    batch_pieces: int = 1024
    # Share of the steps, from the first on, of which every other one takes its batch from the further training files.
    helper_share: float = 0.4
    # Learning rate of what no encoder brings (classifier, word shapes): factor on the schedule.
    head_rate: float = 5.0
    checkpoint_steps: int = 50
    seed: int = 1
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-4)


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    name: str = "base"
    seed: int = 1
    corpus: CorpusConfig = CorpusConfig()
    questions: tuple[QuestionSet, ...] = ()
    encoder: EncoderConfig = EncoderConfig()
    reader: ReaderConfig = ReaderConfig()
    lengths: LengthConfig = LengthConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    pretrain: PretrainConfig = PretrainConfig()
    index: IndexConfig = IndexConfig()
    finetune: FinetuneConfig = FinetuneConfig()

    @property
    def reader_encoder(self) -> EncoderConfig:
        """The reader's encoder: `encoder` with what `reader` has of its own."""
        own, common = self.reader, self.encoder
        is_checkpoint = own.init not in ("", "random")
        return dataclasses.replace(
            common,
            init=own.init or common.init,
            num_layers=own.num_layers or (0 if is_checkpoint else common.num_layers),
            hidden_dim=own.hidden_dim or common.hidden_dim,
            num_heads=own.num_heads or common.num_heads,
            intermediate_dim=own.intermediate_dim or common.intermediate_dim,
            max_sequence_length=own.max_sequence_length or common.max_sequence_length,
            dropout=common.dropout if own.dropout < 0 else own.dropout,
        )


def load(path, overrides=(), data_dir=None):
    """The `Config` of a Python file's `get_config()`, with `section.field=value` overrides and {data_dir} filled in.

    Raises `UserError` for a missing or broken file, an unknown field (with the nearest known name) or a wrong type.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"no configuration file {path}: see configs/ for those that exist")
    spec = importlib.util.spec_from_file_location("realm_tf_config", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:
        raise UserError(f"{path}: get_config() failed: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(f"{path}: get_config() must return a realm_tf.config.Config, not {type(config).__name__}")
    config = overridden(config, overrides)
    config_checks.check(config, path)
    return fill_data_dir(config, data_dir)


def to_dict(config):
    """JSON value of a configuration."""
    return dataclasses.asdict(config)


def from_dict(value, kind=Config):
    """The inverse of `to_dict`.

    Raises `UserError` on unknown or missing fields (a run of another version of the code) and on values of other types.
    """
    return stored(value, kind)
