"""A small file system that can be full or read-only."""

import os
import subprocess


class SmallDisk:
    """A file system of its own in memory, as a context; yields itself. Needs the right to mount."""

    def __init__(self, folder, kilobytes):
        self._folder, self._kilobytes = str(folder), kilobytes

    def __enter__(self):
        os.makedirs(self._folder, exist_ok=True)
        self._mount(f"size={self._kilobytes}k")
        return self

    def path(self, *names):
        return os.path.join(self._folder, *names)

    def remount(self, options):
        """options: of mount, such as "size=10m" or "ro"."""
        self._mount(f"remount,{options}")

    def leave_room(self, kilobytes):
        """Makes the disk so large that this is free on it."""
        state = os.statvfs(self._folder)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize // 1024
        self.remount(f"size={used + kilobytes}k")

    def _mount(self, options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self._folder], check=True, capture_output=True)

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self._folder], check=True, capture_output=True)


def can_mount(scratch):
    """Whether this process may mount a small disk; without it, faults of disks are left out and said to be."""
    try:
        with SmallDisk(os.path.join(scratch, "try"), 64):
            return True
    except (OSError, subprocess.SubprocessError):
        return False
