"""What the stages of one run share: configuration, tokenizer, blocks, salient spans, questions."""

import functools
import os

from realm_tf import artifacts, checksums, provenance
from realm_tf import config as config_lib
from realm_tf.data.answers import make_matchers
from realm_tf.data.blocks import BlockStore
from realm_tf.data.pretrain_queries import PretrainQueries
from realm_tf.data.questions import is_dev_by_hash, read_questions
from realm_tf.data.salient import SalientSpanStore
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.training import corpus_versions

CONFIG = "config.json"


class RunContext:
    """A run's configuration and its data, opened when first asked for.

    Args:
      workdir: directory of the run.
      config: `Config`; by default the one stored in the run.
      corpus_dir: directory whose blocks/ and index/ are read; by default the run's own, see `updated`.

    Raises `UserError` if there is neither.
    """

    def __init__(self, workdir, config=None, corpus_dir=None):
        if not workdir:
            raise UserError("say where the run lives: --workdir=DIRECTORY")
        self.workdir = str(workdir)
        self.corpus_dir = str(corpus_dir or workdir)
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
        provenance.works_for(config_lib.to_dict(config))

    def store_config(self):
        """Writes the configuration into the run, for the stages that come later."""
        artifacts.write_json(self._config_path, config_lib.to_dict(self.config))

    def path(self, *names):
        """A path below the working directory."""
        return os.path.join(self.workdir, *names)

    def inputs(self, *names):
        """What a manifest tells of the artifacts that another is made from: {name: `artifacts.input_of` it}.

        names: paths below the working directory; those that are not there are left out.
        """
        return {name: artifacts.input_of(self.path(name)) for name in names if artifacts.is_complete(self.path(name))}

    def updated(self):
        """The context for what answers and measures: with blocks and indexes of the newest corpus version, if any.

        Training keeps to the run's own: an update of the corpus trains nothing. Raises `UserError` if the version was
        made from other blocks, or by other embedders, than the run now has.
        """
        version = corpus_versions.newest(self.workdir)
        if version is None or version == self.corpus_dir:
            return self
        corpus_versions.require_current(self.workdir, version)
        return RunContext(self.workdir, self.config, version)

    def index_path(self, name):
        """Path of an index of the blocks that are searched; name: as in manifests, "index/step_3".

        Raises `UserError` if it is missing or of other blocks.
        """
        path = checksums.inside(self.corpus_dir, name)
        artifacts.require_same(
            "corpus_fingerprint", **{self.blocks.path: self.blocks.manifest, path: artifacts.manifest(path)}
        )
        return path

    @functools.cached_property
    def tokenizer(self):
        return build.load_common_tokenizer(self.config)

    @functools.cached_property
    def blocks(self):
        """The blocks that are searched."""
        return self._block_store(os.path.join(self.corpus_dir, "blocks"))

    @functools.cached_property
    def pretrain_blocks(self):
        """The blocks whose sentences pre-training masks: those that are searched, unless `corpus.pretrain_input`."""
        if self.config.corpus.pretrain_input:
            return self._block_store(self.path("pretrain_blocks"))
        return self.blocks if self.corpus_dir == self.workdir else self._block_store(self.path("blocks"))

    def _block_store(self, path):
        blocks = BlockStore(path)
        artifacts.require_same(
            "vocabulary", **{path: blocks.manifest, "the encoder": {"vocabulary": self.tokenizer.fingerprint}}
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
        if os.path.exists(self.path("questions")):
            artifacts.checked(self.path("questions"))
        if os.path.exists(path):
            questions = read_questions(path)
            if split != "train" or self._has_dev():
                return questions
            return [q for q in questions if not is_dev_by_hash(q.text)]
        if split == "dev" and os.path.exists(self.path("questions", "train.jsonl")):
            return [q for q in read_questions(self.path("questions", "train.jsonl")) if is_dev_by_hash(q.text)]
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
