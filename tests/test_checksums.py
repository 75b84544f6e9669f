"""Damage is found and named; what a manifest names stays inside of its directory."""

import hashlib
import json
import os
import pathlib

import pytest

from realm_tf import artifacts, checksums, provenance
from realm_tf.errors import UserError
from tests.tampering import flip


@pytest.fixture
def artifact(tmp_path):
    with artifacts.publish(tmp_path / "step_1", kind="test", step=1) as (tmp, _):
        pathlib.Path(tmp, "data").write_bytes(b"abc" * 1000)
        os.makedirs(os.path.join(tmp, "inner"))
        pathlib.Path(tmp, "inner", "more").write_bytes(b"")
    return tmp_path / "step_1"


def test_the_manifest_names_every_file(artifact):
    files = artifacts.manifest(artifact)["files"]
    assert files == {  # hashlib is the outside program: `sha256sum` prints the same
        "data": {"bytes": 3000, "sha256": hashlib.sha256(b"abc" * 1000).hexdigest()},
        "inner/more": {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()},
    }
    assert artifacts.verify(artifact) == []


def test_a_changed_byte_is_found_by_who_hashes(artifact):
    flip(artifact / "data", 100)
    assert artifacts.manifest(artifact)["step"] == 1  # sizes alone
    with pytest.raises(UserError, match="data is damaged: its SHA-256 .* run the stage"):
        artifacts.checked(artifact)
    assert artifacts.verify(artifact) == [f"{artifact}/data is damaged: its SHA-256 is not what it was"]


def test_only_verify_hashes_large_files(artifact, monkeypatch):
    monkeypatch.setattr(checksums, "CHEAP_BYTES", 2999)
    flip(artifact / "data", 100)
    artifacts.checked(artifact)
    assert len(artifacts.verify(artifact)) == 1


def test_sources_are_told_by_their_contents(tmp_path):
    folder = tmp_path / "documents"
    (folder / "sub").mkdir(parents=True)
    seen = {"b.txt": b"one", "sub/a.txt": b"three"}
    for name, text in {**seen, ".hidden": b"no document"}.items():
        (folder / name).write_bytes(text)
    lines = "".join(f"{name}\0{hashlib.sha256(text).hexdigest()}\n" for name, text in seen.items())
    wanted = {"files": 2, "bytes": 3 + 5, "sha256": hashlib.sha256(lines.encode()).hexdigest()}
    alone = {"files": 1, "bytes": 3, "sha256": hashlib.sha256(b"one").hexdigest()}
    found = checksums.of_sources([folder, folder / "b.txt", tmp_path / "missing"])
    assert found == {str(folder): wanted, str(folder / "b.txt"): alone}


@pytest.mark.parametrize("size", [0, 1500, 4000])
def test_a_file_of_another_size_is_found_by_every_reader(artifact, size):
    os.truncate(artifact / "data", size)
    with pytest.raises(UserError, match=f"data is damaged: it has {size} bytes, and had 3000"):
        artifacts.manifest(artifact)


def test_a_missing_and_an_added_file(artifact):
    (artifact / "inner" / "more").unlink()
    (artifact / "new").touch()
    missing, added = artifacts.verify(artifact)
    assert missing == f"{artifact}/inner/more is missing"
    assert added.startswith(f"{artifact}/new does not belong there")
    with pytest.raises(UserError, match="more is missing"):
        artifacts.manifest(artifact)


@pytest.mark.parametrize("old, new", [('"step": 1', '"step": 7'), ("3000", "3001"), ('"kind"', '"kinD"')])
def test_a_changed_manifest_is_found(artifact, old, new):
    file = artifact / "manifest.json"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(UserError, match="manifest.json is damaged"):
        artifacts.manifest(artifact)
    assert "manifest.json is damaged" in artifacts.verify(artifact)[0]


@pytest.mark.parametrize("text", ["[]", "3", '{"files": []}', '{"files": {"a": 3}}', '{"files": {"a": {}}}', "{", "\0"])
def test_manifests_of_other_kinds(artifact, text):
    (artifact / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="manifest.json"):
        artifacts.manifest(artifact)
    assert len(artifacts.verify(artifact)) == 1


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "gs://bucket/x", "..", "", "a\\..\\..\\b"])
def test_a_manifest_cannot_name_files_outside_of_its_directory(artifact, name):
    (artifact.parent / "secret").write_bytes(b"")
    outside = {name: {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}}
    artifacts.write_manifest(artifact, artifacts.manifest(artifact) | {"files": outside})
    for look in (artifacts.manifest, artifacts.checked, artifacts.verify):
        try:
            problem = look(artifact)[0]
        except UserError as error:
            problem = str(error)
        assert "outside of its directory" in problem
    with pytest.raises(UserError, match="outside of"):
        checksums.inside("folder", name)


def test_manifests_without_checksums_still_load(artifact):
    (artifact / "manifest.json").write_text(json.dumps({"kind": "test", "step": 1}))
    assert artifacts.manifest(artifact) == artifacts.checked(artifact) == {"kind": "test", "step": 1}
    assert artifacts.verify(artifact) == []


def test_checksums_of_an_artifact_within_are_taken_over(artifact, tmp_path):
    """So that a copy that went wrong is found, although it was complete when it was published."""
    with artifacts.publish(tmp_path / "step_2") as (tmp, _):
        artifacts.copy_files(artifact, os.path.join(tmp, "copied"))
        flip(pathlib.Path(tmp, "copied", "data"), 100)
    assert "copied/data is damaged" in artifacts.verify(tmp_path / "step_2")[0]


def test_what_made_it(artifact, tmp_path):
    provenance.works_for({"name": "tiny", "seed": 7})
    with artifacts.publish(tmp_path / "step_3"):
        pass
    made_by = artifacts.manifest(tmp_path / "step_3")["made_by"]
    assert (made_by["seed"], made_by["config"]) == (7, "tiny")
    assert made_by["packages"]["tensorflow"].startswith("2.")
    assert set(made_by) == {"realm_tf", "commit", "packages", "seed", "config", "config_sha256"}
