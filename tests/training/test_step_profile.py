"""--profile_steps: the files appear, and what cannot be profiled is refused."""

import pytest

from realm_tf.errors import UserError
from realm_tf.training import loop
from realm_tf.training.step_profile import StepProfile
from tests.training.test_loop import make_task


@pytest.mark.parametrize("text", ["3", "a:b", "0:2", "5:4", "1:2:3", "-1:2", "1:"])
def test_what_is_no_range_of_steps_is_refused(text, tmp_path):
    with pytest.raises(UserError, match=f"--profile_steps={text}: give"):
        StepProfile(text, str(tmp_path))


def test_the_profile_appears(tmp_path):
    task = make_task(tmp_path)
    task.profile = StepProfile("2:3", str(tmp_path))
    loop.train(task)
    files = list(tmp_path.glob("profile/plugins/profile/*/*.xplane.pb"))
    assert len(files) == 1 and files[0].stat().st_size > 0


@pytest.mark.parametrize("text", ["7:8", "8:9"])
def test_steps_that_the_training_does_not_take_are_refused(text, tmp_path):
    task = make_task(tmp_path)
    task.profile = StepProfile(text, str(tmp_path))
    with pytest.raises(UserError, match="from step 1 to step 7"):
        loop.train(task)


def test_without_it_there_is_no_profile(tmp_path):
    loop.train(make_task(tmp_path))
    assert not (tmp_path / "profile").exists()
