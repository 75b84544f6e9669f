"""What the stages of one run share: configuration, tokenizer, blocks, salient spans, questions."""

import functools
import hashlib
import os

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.data.answers import make_matchers
from realm_tf.data.blocks import BlockStore
from realm_tf.data.pretrain_queries import PretrainQueries
from realm_tf.data.questions import read_questions
from realm_tf.data.salient import SalientSpanStore
from realm_tf.errors import UserError
from realm_tf.models import build

CONFIG = "config.json"


class RunContext:
    """A run's configuration and its data, opened when first asked for.

    Args:
      workdir: directory of the run.
      config: `Config`; by default the one stored in the run.

    Raises `UserError` if there is neither.
    """

    def __init__(self, workdir, config=None):
        if not workdir:
            raise UserError("say where the run lives: --workdir=DIRECTORY")
        self.workdir = str(workdir)
        self._config_path = os.path.join(self.workdir, CONFIG)
        if config is None:
            if not artifacts.file_system().exists(self._config_path):
                raise UserError(f"{self.workdir} holds no run yet (no {CONFIG}): give --config=configs/demo.py")
            try:
                config = config_lib.from_dict(artifacts.read_json(self._config_path))
            except UserError as error:
                raise UserError(f"{self._config_path}: {error}") from error
        self.config = config
        self._matchers = {}
        build.seed_everything(config.seed)

    def store_config(self):
        """Writes the configuration into the run, for the stages that come later."""
        artifacts.write_json(self._config_path, config_lib.to_dict(self.config))

    def path(self, *names):
        """A path below the working directory."""
        return os.path.join(self.workdir, *names)

    @functools.cached_property
    def tokenizer(self):
        return build.load_tokenizer(self.config.encoder)

    @functools.cached_property
    def blocks(self):
        """The blocks that are searched."""
        return self._block_store("blocks")

    @functools.cached_property
    def pretrain_blocks(self):
        """The blocks whose sentences pre-training masks: those that are searched, unless `corpus.pretrain_input`."""
        return self._block_store("pretrain_blocks") if self.config.corpus.pretrain_input else self.blocks

    def _block_store(self, name):
        blocks = BlockStore(self.path(name))
        artifacts.require_same(
            "vocabulary",
            **{self.path(name): blocks.manifest, "the encoder": {"vocabulary": self.tokenizer.fingerprint}},
        )
        return blocks

    @functools.cached_property
    def spans(self):
        """The salient spans of `pretrain_blocks`."""
        spans, blocks = SalientSpanStore(self.path("queries")), self.pretrain_blocks
        artifacts.require_same(
            "corpus_fingerprint", **{blocks.path: blocks.manifest, self.path("queries"): spans.manifest}
        )
        return spans

    def pretrain_queries(self, batch_size):
        """The `PretrainQueries` of the run's configuration, in batches of `batch_size`."""
        settings = self.config.pretrain
        return PretrainQueries(
            self.pretrain_blocks,
            self.spans,
            self.tokenizer,
            self.config.lengths.query,
            settings.max_masks,
            batch_size,
            self.config.seed,
            settings.long_spans,
            settings.masking,
            settings.mask_rate,
        )

    def questions(self, split):
        """The questions of "train", "dev" or "test"; [] if the run has none.

        Without a dev file, a tenth of the training questions, chosen by hash, is the dev set (as ORQA's re-split does).
        """
        path = self.path("questions", f"{split}.jsonl")
        if os.path.exists(path):
            questions = read_questions(path)
            return questions if split != "train" or self._has_dev() else [q for q in questions if not _in_dev(q)]
        if split == "dev" and os.path.exists(self.path("questions", "train.jsonl")):
            return [q for q in read_questions(self.path("questions", "train.jsonl")) if _in_dev(q)]
        return []

    def matchers(self, questions, has_answer="tokens"):
        """The `AnswerMatcher` of each question, made once a run.

        Measures take the default, so that figures of different runs mean the same; fine-tuning says its own.
        """
        known = self._matchers.setdefault(has_answer, {})
        missing = [q for q in questions if q not in known]
        known.update(zip(missing, make_matchers(missing, self.tokenizer, has_answer), strict=True))
        return [known[q] for q in questions]

    def _has_dev(self):
        return os.path.exists(self.path("questions", "dev.jsonl"))


def _in_dev(question):
    return int(hashlib.sha256(question.text.encode()).hexdigest(), 16) % 10 == 0
