"""Settings derived from the number of blocks."""

import dataclasses

import pytest

from realm_tf.config import IndexConfig
from realm_tf.errors import UserError
from realm_tf.retrieval import settings as settings_lib


def test_wikipedia():
    # 13,353,718 blocks: 4 shards of at most 3,338,430; 1.25 * sqrt(3,338,430) = 2283.9 is fewer than
    # 3,338,430 / 600 = 5564; 0.8 * sqrt(5564) = 59.7; 0.08 * sqrt(13,353,718) = 292.3; 60 * 5564 = 333,840;
    # 13,353,718 * 128 * 4 bytes = 6.4 GiB.
    settings = settings_lib.derived(IndexConfig(), 13_353_718, 128)
    assert (settings.leaves, settings.leaves_searched, settings.rescored) == (5564, 59, 292)
    assert (settings.training_sample, settings.precision) == (333_840, "float16")
    assert settings_lib.shards(settings, 13_353_718)[-1] == (10_015_288, 13_353_718)


def test_what_is_given_stays():
    given = IndexConfig(leaves=100, leaves_searched=7, rescored=33, precision="int8", training_sample=5000)
    assert settings_lib.derived(given, 1_000_000, 128) == given


def test_a_small_corpus_has_no_leaves():
    settings = settings_lib.derived(IndexConfig(), 705, 16)
    assert (settings.leaves, settings.leaves_searched, settings.precision) == (0, 0, "float32")
    assert settings_lib.stronger(settings) == []


def test_stronger_settings_search_or_re_score_half_as_much_again():
    settings = settings_lib.derived(IndexConfig(leaves=30, leaves_searched=10, rescored=100), 1000, 16)
    # 10 * 3 // 2 + 1 = 16, 100 * 3 // 2 + 1 = 151.
    assert [(s.leaves_searched, s.rescored) for s in settings_lib.stronger(settings)] == [(16, 100), (10, 151)]


def test_the_strongest_settings_search_every_leaf():
    for kind, rescored in (("ivf", 100), ("scann", settings_lib.MOST_RESCORED)):
        settings = settings_lib.derived(IndexConfig(kind, leaves=30, leaves_searched=29, rescored=rescored), 1000, 16)
        (strongest,) = settings_lib.stronger(settings)
        assert strongest.leaves_searched == 30 and settings_lib.stronger(strongest) == []


@pytest.mark.parametrize(
    ("kind", "blocks", "shard_blocks", "leaves"),
    [
        ("scann", 1000, 0, 2000),
        ("scann", 3, 0, 4),
        ("scann", 15, 0, 1),  # ScaNN's codes have 16 centres
        ("scann", 40, 15, 4),  # shards of 13, 13 and 14
        ("ivf", 3, 0, 4),
        ("exact", 3, 0, 4),
    ],
)
def test_too_few_blocks_for_the_leaves_have_none(kind, blocks, shard_blocks, leaves, capsys):
    config = IndexConfig(kind, leaves=leaves, leaves_searched=leaves)
    config = dataclasses.replace(config, shard_blocks=shard_blocks or config.shard_blocks)
    settings = settings_lib.derived(config, blocks, 16)
    assert (settings.leaves, settings.leaves_searched) == (0, 0)
    assert f"too few for {leaves} leaves of {kind}" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("kind", "blocks"), [("scann", 16), ("ivf", 4)])
def test_as_many_blocks_as_centres_are_enough(kind, blocks):
    assert settings_lib.derived(IndexConfig(kind, leaves=4), blocks, 16).leaves == 4


def test_the_sample_has_no_fewer_blocks_than_there_are_centres():
    assert settings_lib.derived(IndexConfig("scann", leaves=30, training_sample=3), 1000, 16).training_sample == 30
    assert settings_lib.derived(IndexConfig("scann", leaves=4, training_sample=3), 1000, 16).training_sample == 16


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (IndexConfig(leaves=20, leaves_searched=30), "index.leaves_searched=30 is more than the 20 leaves"),
        (IndexConfig(kind="exact", precision="int8"), "index.precision=int8 is not for index.kind=exact"),
    ],
)
def test_impossible_settings_are_refused(config, match):
    with pytest.raises(UserError, match=match):
        settings_lib.derived(config, 1000, 16)
