"""Directories that appear whole or not at all, with a real process really killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from realm_tf import artifacts
from realm_tf.errors import UserError


def publish(parent, step):
    with artifacts.publish(parent / f"step_{step}", step=step) as (tmp, _):
        with open(os.path.join(tmp, "data"), "w") as file:
            file.write(str(step))


def test_newest_is_by_number_and_counts_complete_versions_alone(tmp_path):
    for step in (2, 10, 9):
        publish(tmp_path, step)
    (tmp_path / "step_11").mkdir()  # no manifest: never finished
    (tmp_path / "notes").mkdir()
    assert [step for step, _ in artifacts.versions(tmp_path)] == [2, 9, 10]
    assert artifacts.newest(tmp_path) == (10, str(tmp_path / "step_10"))
    assert artifacts.newest(tmp_path / "absent") is None


def test_a_body_that_raises_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), artifacts.publish(tmp_path / "step_1"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_publishing_again_replaces(tmp_path):
    publish(tmp_path, 1)
    with artifacts.publish(tmp_path / "step_1", step=1, note="second"):
        pass
    assert artifacts.manifest(tmp_path / "step_1")["note"] == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["step_1"]


def test_prune_keeps_the_newest(tmp_path):
    for step in range(5):
        publish(tmp_path, step)
    artifacts.prune(tmp_path, 2)
    assert [step for step, _ in artifacts.versions(tmp_path)] == [3, 4]


def test_broken_manifest_and_missing_artifact_are_named(tmp_path):
    publish(tmp_path, 1)
    (tmp_path / "step_1" / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        artifacts.manifest(tmp_path / "step_1")
    with pytest.raises(UserError, match="not a finished artifact"):
        artifacts.manifest(tmp_path / "step_2")


def test_require_same_names_the_pair():
    artifacts.require_same("vocabulary", a={"vocabulary": "x"}, b={"vocabulary": "x"})
    with pytest.raises(UserError, match="a and b do not belong together: vocabulary"):
        artifacts.require_same("vocabulary", a={"vocabulary": "x"}, b={"vocabulary": "y"})


def test_wait_newer_ends_when_told(tmp_path):
    publish(tmp_path, 3)
    assert artifacts.wait_newer(tmp_path, 2, lambda: False)[0] == 3
    assert artifacts.wait_newer(tmp_path, 3, lambda: True) is None


WRITER = """
import sys, os
from realm_tf import artifacts
parent = sys.argv[1]
for step in range(1, 100000):
    with artifacts.publish(os.path.join(parent, f"step_{step}"), step=step) as (tmp, _):
        for i in range(20):
            with open(os.path.join(tmp, f"part_{i}"), "w") as file:
                file.write("x" * 10000)
    print(step, flush=True)
"""


def test_a_killed_writer_leaves_only_whole_versions(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    while int(process.stdout.readline()) < 3:
        pass
    time.sleep(0.003)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    found = artifacts.versions(tmp_path)
    assert len(found) >= 3
    for _, path in found:
        assert len([name for name in os.listdir(path) if name.startswith("part_")]) == 20


def test_leftovers_of_killed_writers_go(tmp_path):
    """At once where the caller is alone, a half-deleted version too; after an hour otherwise."""
    publish(tmp_path, 1)

    def leave():
        for name in (".tmp-step_2-a", ".old-step_1-b", ".shards-step_2-c", "step_3"):
            (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / "done.json.0a1b2c3d.tmp").touch()

    leave()
    artifacts.tidy(tmp_path)
    assert len(list(tmp_path.iterdir())) == 6
    os.utime(tmp_path / ".tmp-step_2-a", (time.time() - 3700,) * 2)
    artifacts.prune(tmp_path, 1)
    assert len(list(tmp_path.iterdir())) == 5
    artifacts.tidy(tmp_path, alone=True, shards=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".shards-step_2-c", "step_1"]
    leave()
    artifacts.prune(tmp_path, 1, alone=True)
    assert [path.name for path in tmp_path.iterdir()] == ["step_1"]


def test_on_remote_paths_the_manifest_comes_last(tmp_path, monkeypatch):
    """Renaming a directory of a bucket moves file by file: a version is there when its manifest is."""
    parent, gfile, seen = f"ram://{tmp_path.name}", artifacts.file_system(), []
    for note in ("first", "second"):
        with artifacts.publish(f"{parent}/step_1", note=note) as (tmp, _):
            assert not artifacts.is_remote(tmp)  # so that files in it can be mapped
            os.makedirs(os.path.join(tmp, "embedder"))
            for name in ("zzz", "embedder/weights"):
                with open(os.path.join(tmp, name), "w") as file:
                    file.write(note)
            copy = gfile.copy

            def watched(*args, copy=copy, **options):
                seen.append(artifacts.versions(parent))
                copy(*args, **options)

            monkeypatch.setattr(gfile, "copy", watched)
        monkeypatch.undo()
        assert seen == [[], [], []]  # before each of the three files was copied
        seen.clear()
        assert artifacts.newest(parent) == (1, f"{parent}/step_1")
        assert artifacts.manifest(f"{parent}/step_1")["note"] == note
    with artifacts.local_copy(f"{parent}/step_1") as path:
        assert open(os.path.join(path, "embedder", "weights")).read() == "second"
        assert artifacts.manifest(path)["note"] == "second"
    assert not os.path.exists(path)
    with artifacts.local_copy(tmp_path) as path:
        assert path == str(tmp_path)


def test_polls_grow_to_the_longest():
    pauses = artifacts.polls("local", longest=0.5)
    assert [next(pauses) for _ in range(4)] == [0.25, 0.375, 0.5, 0.5]
    pauses = artifacts.polls("gs://bucket/run")
    assert max(next(pauses) for _ in range(20)) == 10.0
