"""Settings derived from the number of blocks."""

import pytest

from realm_tf.config import IndexConfig
from realm_tf.errors import UserError
from realm_tf.retrieval import settings as settings_lib


def test_wikipedia():
    # 13,353,718 blocks: 4 shards of at most 3,338,430; 3 * sqrt(3,338,430) = 5481.4; 0.8 * sqrt(5481) = 59.2;
    # 0.08 * sqrt(13,353,718) = 292.3; 60 * 5481 = 328,860; 13,353,718 * 128 * 4 bytes = 6.4 GiB.
    settings = settings_lib.derived(IndexConfig(), 13_353_718, 128)
    assert (settings.leaves, settings.leaves_searched, settings.rescored) == (5481, 59, 292)
    assert (settings.training_sample, settings.precision) == (328_860, "float16")
    assert settings_lib.shards(settings, 13_353_718)[-1] == (10_015_288, 13_353_718)


def test_what_is_given_stays():
    given = IndexConfig(leaves=100, leaves_searched=7, rescored=33, precision="int8", training_sample=5000)
    assert settings_lib.derived(given, 1_000_000, 128) == given


def test_a_small_corpus_has_no_leaves():
    settings = settings_lib.derived(IndexConfig(), 705, 16)
    assert (settings.leaves, settings.leaves_searched, settings.precision) == (0, 0, "float32")
    assert list(settings_lib.strengthened(settings)) == [settings]


def test_strengthened_settings_end_with_every_leaf():
    settings = settings_lib.derived(IndexConfig(leaves=30, leaves_searched=10, rescored=100), 1000, 16)
    # Times 1, 1.5, 2.25, and 3.375, cut to the 30 leaves there are.
    tried = [(s.leaves_searched, s.rescored) for s in settings_lib.strengthened(settings)]
    assert tried == [(10, 100), (15, 150), (22, 225), (30, 337)]


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (IndexConfig(leaves=2000), "index.leaves=2000 is more than the 1000 blocks of a shard"),
        (IndexConfig(leaves=20, leaves_searched=30), "index.leaves_searched=30 is more than the 20 leaves"),
        (IndexConfig(kind="exact", precision="int8"), "index.precision=int8 is not for index.kind=exact"),
    ],
)
def test_impossible_settings_are_refused(config, match):
    with pytest.raises(UserError, match=match):
        settings_lib.derived(config, 1000, 16)
