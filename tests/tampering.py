"""Changing artifacts from outside: with damage that checksums show, or as if they had been published so."""

from realm_tf import artifacts, checksums


def flip(path, at):
    """Changes one bit of a file; its size stays."""
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def reseal(path, **facts):
    """Makes an artifact whose files were changed a good one, and sets `facts` in its manifest."""
    manifest = artifacts.read_json(f"{path}/{artifacts.MANIFEST}") | facts
    manifest[checksums.FILES] = checksums.of_files(str(path), artifacts.MANIFEST)
    artifacts.write_manifest(path, manifest)
