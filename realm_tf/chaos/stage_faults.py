"""Faults of one stage or job, as a process: SIGKILL at a random instant, a disk that fills up or cannot be written.

Each begins where the stage before it ended, and is one command. The same command again must end in the files that the
stage makes where nobody disturbs it.
"""

import dataclasses
import itertools
import os
import shutil
import time

from realm_tf import artifacts
from realm_tf.chaos import comparison, run_faults
from realm_tf.chaos.report import Outcome
from realm_tf.chaos.small_disk import SmallDisk

START_SECONDS = 3.0  # until a process has come to its stage, about
PAGE_KILOBYTES = 4
DISK_KILOBYTES = 1 << 20  # room for any of the runs


@dataclasses.dataclass(frozen=True)
class Work:
    """What is disturbed.

    name: for people. module, flags: the command, but for --workdir. before: the stage in front of which the run stands
    that it gets. outputs: folders of the run that it makes.
    """

    name: str
    module: str
    flags: tuple
    before: str
    outputs: tuple

    @property
    def is_job(self):
        """Whether this is a command of its own and no stage of the pipeline."""
        return self.module != "realm_tf.pipeline"


class StagedRuns:
    """Runs that stand before a stage, made from a finished one.

    finished: its path. arguments: the flags that made it, without --workdir. scratch: a folder.
    """

    def __init__(self, finished, arguments, scratch):
        from realm_tf.training import stages

        self._scratch, self._count = scratch, itertools.count()
        self._finished = shutil.copytree(finished, os.path.join(scratch, "finished"))
        self._expected, self._made = {}, comparison.digests(self._finished)
        jobs = (("a refresh", "realm_tf.refresh", ("--once",)), ("a Beam job", "beam_jobs.embed_blocks", ()))
        self.works = [
            Work(stage.name, "realm_tf.pipeline", (*arguments, f"--to={stage.name}"), stage.name, _made_by(stage))
            for stage in stages.STAGES
        ] + [Work(name, module, flags, "pretrain", ("index/step_0",)) for name, module, flags in jobs]

    def folder(self):
        return os.path.join(self._scratch, f"stage_{next(self._count)}")

    def prepare(self, work, target):
        """Makes `target` the run as the work finds it; by hard links, or a copy where it is on another disk."""
        from realm_tf.training import stages

        linked = target if os.path.dirname(target) == self._scratch else self.folder()
        os.makedirs(linked)
        shutil.copy(os.path.join(self._finished, "config.json"), linked)
        stages.share(self._finished, linked, work.before)
        if linked != target:
            shutil.copytree(linked, target)
            shutil.rmtree(linked)

    def start(self, work, workdir, words):
        """The command as a process; its output is added to the file `words`."""
        return run_faults.start(work.module, [f"--workdir={workdir}", *work.flags], words)

    def undisturbed(self, work):
        """(what the work makes where nobody disturbs it, as `comparison.digests`; seconds that it takes, about)."""
        if work not in self._expected:
            self._expected[work] = self._of_job(work) if work.is_job else self._of_stage(work)
        return self._expected[work]

    def pages(self, work):
        """About how much of a disk the work fills."""
        found = (os.path.join(self._finished, output) for output in work.outputs)
        files = [os.path.join(at, name) for path in found for at, _, names in os.walk(path) for name in names]
        return sum(-(-os.path.getsize(file) // (PAGE_KILOBYTES * 1024)) for file in files)

    def _of_stage(self, work):
        seconds = artifacts.read_json(os.path.join(self._finished, "stages", f"{work.name}.json"))["seconds"]
        return comparison.below(self._made, work.outputs), seconds + START_SECONDS

    def _of_job(self, work):
        workdir = self.folder()
        self.prepare(work, workdir)
        began = time.monotonic()
        process = self.start(work, workdir, f"{workdir}.txt")
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{work.name} failed undisturbed: {_read(f'{workdir}.txt')}")
        found = comparison.below(comparison.digests(workdir), work.outputs)
        shutil.rmtree(workdir)
        return found, time.monotonic() - began

    def again(self, kind, work, workdir, words, told, note):
        """The outcome of running the command again, to its end. told: whether the fault was told in one line."""
        process = self.start(work, workdir, words)
        process.join()
        expected, _ = self.undisturbed(work)
        lost, corrupt = process.exitcode != 0, False
        try:
            found = comparison.below(comparison.digests(workdir), work.outputs)
            differing = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
            lost, note = lost or bool(differing), f"{note}; differing: {differing[:3]}"
        except Exception as error:
            corrupt, note = process.exitcode == 0, f"{note}; {error!r}"
        text = _read(words)
        unexplained = not told or "Traceback" in text
        if lost or corrupt or unexplained:
            note = f"{note}; {text[-1500:]}"
        os.remove(words)
        return Outcome(kind, lost, corrupt, unexplained, note)


def killed(runs, work, rng):
    """SIGKILL of the work at a random instant."""
    workdir = runs.folder()
    words, life = f"{workdir}.txt", rng.uniform(0, runs.undisturbed(work)[1])
    runs.prepare(work, workdir)
    process = runs.start(work, workdir, words)
    process.join(life)
    process.kill()
    process.join()
    outcome = runs.again(f"SIGKILL of {_kind(work)}", work, workdir, words, True, f"{work.name} after {life:.1f} s")
    shutil.rmtree(workdir)
    return outcome


def full_disk(runs, work, rng):
    """The disk is full at some write of the work; then there is room."""
    kilobytes = PAGE_KILOBYTES * rng.randrange(runs.pages(work) + 1)
    kind, note = f"full disk under {_kind(work)}", f"{work.name} with {kilobytes} kB"
    return _on_disk(runs, work, kind, note, lambda disk: disk.leave_room(kilobytes), f"size={DISK_KILOBYTES}k",
                    lambda code, line: code == 0 or code == 2 and "the disk is full" in line)  # fmt: skip


def read_only_disk(runs, work, _):
    """The disk cannot be written when the work begins; then it can."""
    kind = f"read-only disk under {_kind(work)}"
    return _on_disk(runs, work, kind, work.name, lambda disk: disk.remount("ro"), "rw",
                    lambda code, line: code == 2 and "the disk cannot be written" in line)  # fmt: skip


def _on_disk(runs, work, kind, note, spoil, mended, is_told):
    """The outcome of the work on a disk of its own, which `spoil` makes bad and the mount options `mended` good again.

    is_told: (exit code, last line) -> whether the fault was told in one line.
    """
    folder = runs.folder()
    with SmallDisk(folder, DISK_KILOBYTES) as disk:
        workdir, words = disk.path("run"), f"{folder}.txt"
        runs.prepare(work, workdir)
        spoil(disk)
        process = runs.start(work, workdir, words)
        process.join()
        told = is_told(process.exitcode, _last_line(words))
        disk.remount(mended)
        return runs.again(kind, work, workdir, words, told, f"{note}, exit code {process.exitcode}")


def _kind(work):
    return work.name if work.is_job else "a stage"


def _made_by(stage):
    """The folders of a stage; those that later stages add embedders to are one embedder here."""
    return tuple("embedder/step_0" if output == "embedder" else output for output in stage.outputs)


def _last_line(words):
    return _read(words).rstrip().rpartition("\n")[2]


def _read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
