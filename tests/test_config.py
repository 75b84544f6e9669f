"""Configurations: loading, overrides, errors that help."""

import pathlib

import pytest

from realm_tf import config as config_lib
from realm_tf.errors import UserError

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_configuration_loads_and_survives_a_round_trip(path):
    config = config_lib.load(path, data_dir="somewhere")
    assert config_lib.from_dict(config_lib.to_dict(config)) == config


def test_override_sets_nested_fields_with_their_type():
    config = config_lib.load(
        CONFIGS / "tiny.py",
        ["pretrain.steps=7", "pretrain.optimizer.learning_rate=1", "encoder.share_embedders=false", "name=mine"],
    )
    assert config.pretrain.steps == 7
    assert config.pretrain.optimizer.learning_rate == 1.0 and isinstance(config.pretrain.optimizer.learning_rate, float)
    assert config.encoder.share_embedders is False
    assert config.name == "mine"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretrain.step=7", "did you mean 'steps'"),
        ("nothing.at=all", "no field 'nothing.at'"),
        ("pretrain.steps=many", "must be of type int"),
        ("pretrain.steps=1.5", "must be of type int"),
        ("encoder.share_embedders=3", "must be of type bool"),
        ("pretrain=3", "is a section"),
        ("pretrain.steps.x=3", "goes too deep"),
        ("pretrain.steps", "write section.field=value"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(override, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        config_lib.load(CONFIGS / "tiny.py", [override])


def test_missing_file_and_missing_data_dir():
    with pytest.raises(UserError, match="no configuration file"):
        config_lib.load("configs/absent.py")
    with pytest.raises(UserError, match="--data_dir"):
        config_lib.load(CONFIGS / "wiki2015.py")


def test_a_configuration_that_fails_is_named(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("def get_config():\n    return 1 / 0\n")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        config_lib.load(path)
    path.write_text("def get_config():\n    return 3\n")
    with pytest.raises(UserError, match="must return"):
        config_lib.load(path)


@pytest.mark.parametrize(
    "override",
    [
        "pretrain.exclude=mine",
        "pretrain.long_spans=keep",
        "index.kind=faiss",
        "index.precision=float64",
        "encoder.pooling=max",
        "encoder.segments=both",
        "finetune.has_answer=words",
        "warm_start.optimizer.decay_from=end",
    ],
)
def test_a_word_that_no_stage_knows_is_refused_at_once(override):
    key, _, value = override.partition("=")
    with pytest.raises(UserError, match=f"{key} is '{value}'; known are"):
        config_lib.load(CONFIGS / "tiny.py", [override])


def test_a_share_that_is_none_is_refused():
    with pytest.raises(UserError, match="pretrain.exclude_overlap is 80.0: give a share between 0 and 1"):
        config_lib.load(CONFIGS / "tiny.py", ["pretrain.exclude_overlap=80"])


@pytest.mark.parametrize(("override", "named"), [("lengths.joint=40", "query"), ("lengths.reader=33", "question")])
def test_a_joint_input_without_room_for_a_block_is_refused(override, named):
    # tiny: queries and questions of 32 pieces; 32 + 16 = 48 is the least joint length.
    with pytest.raises(UserError, match=f"after a {named} of that length"):
        config_lib.load(CONFIGS / "tiny.py", [override])
    key = override.partition("=")[0]
    assert config_lib.load(CONFIGS / "tiny.py", [f"{key}=48"])
