"""The configuration of a run of documents."""

import dataclasses

from realm_tf import config as config_lib
from realm_tf import config_checks
from realm_tf.qa.documents_config import comparable, documents_config


def test_stages_can_work_with_it():
    config = documents_config(["/a", "/b.jsonl"])
    config_checks.check(config, "documents")
    assert config_lib.from_dict(config_lib.to_dict(config)) == config and config.corpus.input == "/a,/b.jsonl"
    # [CLS] question [SEP] within `question`; a body has 160 - 3 pieces at most, and [SEP] follows it.
    assert config.lengths.reader >= config.lengths.question + config.corpus.max_block_length - 3 + 1


def test_what_is_compared():
    config = documents_config(["/a"])
    faster = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, dtype="float16"))
    assert comparable(faster) == comparable(documents_config(["/b"]))
    other = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, pooling="cls"))
    assert comparable(other) != comparable(config)
