"""Files that appear whole or not at all."""

import pytest

from realm_tf.whole_file import replacing


def test_what_was_written_takes_the_place_at_the_end(tmp_path):
    path = tmp_path / "new" / "file"
    for words in ("first", "second"):
        with replacing(path) as aside:
            with open(aside, "w") as file:
                file.write(words)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == words
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("written", [True, False])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, written):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(RuntimeError), replacing(path) as aside:
        if written:
            with open(aside, "w") as file:
                file.write("half")
        raise RuntimeError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
