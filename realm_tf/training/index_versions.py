"""Which version of a run's index is searched: the newest that is whole."""

import math
import os

from realm_tf import artifacts
from realm_tf.progress import say


def damage(path):
    """What is wrong with an index version, or with the embedder that it carries, in a line; "" if nothing is."""
    return artifacts.damage(path) or artifacts.damage(os.path.join(path, "embedder"))


class IndexVersions:
    """The versions under index/ of a run. Of each that is damaged it warns once."""

    def __init__(self, index_dir):
        self._index_dir, self._damaged = index_dir, set()

    def newest(self, above=-1, upto=math.inf):
        """(step, path) of the newest whole version with above < step <= upto; None if there is none."""
        versions = [
            (step, path)
            for step, path in artifacts.versions(self._index_dir)
            if above < step <= upto and path not in self._damaged
        ]
        found, damaged = artifacts.newest_whole(versions, damage)
        for path, problem in damaged:
            if artifacts.is_complete(path):  # not one that was pruned while it was looked at
                self._damaged.add(path)
                say(f"warning: {problem}. An older index is searched instead")
        return found

    def restore(self, step, embedder, refresher):
        """Makes the version of that step anew from its embedder, by a `Refresher`, if it is gone or damaged."""
        path = os.path.join(self._index_dir, f"step_{step}")
        problem = damage(path)
        if problem and artifacts.is_complete(path):
            say(f"warning: {problem}. It is made anew")
            artifacts.remove(path)
        if problem:
            refresher.refresh_in_place(step, embedder)
