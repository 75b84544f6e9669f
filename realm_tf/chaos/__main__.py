"""Injects faults for real into small runs and tells what became of each, in chaos.json.

  python -m realm_tf.chaos --faults=300 --seed=0 --output=chaos.json

Kills, disks that are full or read-only, damaged files of every kind, a refresher that hangs, two at once, one that gets
NaN, losses that run away, clocks that jump. After each fault the same command is run again and must end as if nothing
had happened, or refuse in one line. Exit code 1 if a fault was not survived. docs/what_survives_what.md has the table.

  python -m realm_tf.chaos --killed_run=runs/killed --undisturbed=runs/demo --config=configs/demo.py --kills=10 \\
      --set=pretrain.refresh=inline --output=killed.json

runs one configuration in --killed_run, kills it --kills times over its whole length, and prints its figures beside
those of --undisturbed, a finished run of the same configuration. Exit code 2 if it did not end well.
"""

import os
import random
import sys
import tempfile

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError

CONFIG = absl_flags.DEFINE_string("config", "configs/tiny.py", "Configuration of the small run; inline refresh.")
FAULTS = absl_flags.DEFINE_integer("faults", 300, "How many faults.")
SEED = absl_flags.DEFINE_integer("seed", 0, "Of everything that is drawn.")
OUTPUT = absl_flags.DEFINE_string("output", "chaos.json", "The report.")
RUN = absl_flags.DEFINE_string("run", None, "A finished run to damage copies of, instead of making one.")
KILLS = absl_flags.DEFINE_integer("kills", 10, "How many of the faults kill a whole run; 0 saves minutes.")
STAGES = absl_flags.DEFINE_integer(
    "stages", 29, "How many of the faults disturb one stage or job as a process of its own; 0 saves minutes."
)
KILLED_RUN = absl_flags.DEFINE_string(
    "killed_run", None, "Instead of all this: a new folder, for a run of --config that is killed --kills times."
)
UNDISTURBED = absl_flags.DEFINE_string("undisturbed", None, "With --killed_run: a finished run to compare it with.")
SET = absl_flags.DEFINE_multi_string("set", [], "With --killed_run: overrides of its configuration.")


def main(_):
    if KILLED_RUN.value:
        compare_killed()
        return
    if FAULTS.value < 1:
        raise UserError(f"--faults={FAULTS.value}: give 1 or more")
    from realm_tf.chaos import run_faults
    from realm_tf.chaos.report import Report

    report, rng = Report(FAULTS.value, SEED.value), random.Random(SEED.value)
    arguments = [f"--config={CONFIG.value}", "--set=pretrain.refresh=inline"]
    with tempfile.TemporaryDirectory(prefix="realm_tf-chaos-") as scratch:
        finished, kills = RUN.value, min(KILLS.value, FAULTS.value)
        stages = min(STAGES.value, FAULTS.value - kills)
        writers = (FAULTS.value - kills - stages) // 4
        disturb_writers(scratch, writers, rng, report)  # first: they fork, and the others use TensorFlow here
        if kills or not finished:
            runs = run_faults.KilledRun(arguments, scratch)
            finished = finished or runs.undisturbed
        if kills:
            report.begin("whole runs", kills)
            runs.kills(kills, rng, report.add)
        disturb_stages(finished, arguments, scratch, stages, rng, report)
        damage(finished, scratch, FAULTS.value - kills - stages - writers, rng, report)
    report.write(OUTPUT.value)
    value = report.value()
    print({name: value[name] for name in ("injected", "survived", "lost", "corrupt_accepted", "unexplained")})
    if value["survived"] < value["injected"]:
        sys.exit(1)


def compare_killed():
    """One run that is killed again and again, beside one that was not; see `killed_run.compare`."""
    from realm_tf import artifacts
    from realm_tf.chaos import killed_run

    if not UNDISTURBED.value:
        raise UserError("--killed_run needs --undisturbed=RUN, a finished run of the same configuration")
    arguments = [f"--config={CONFIG.value}", *(f"--set={value}" for value in SET.value)]
    rng = random.Random(SEED.value)
    result = killed_run.compare(arguments, KILLED_RUN.value, UNDISTURBED.value, KILLS.value, rng)
    artifacts.write_json(OUTPUT.value, result)
    print(killed_run.table(result))


def disturb_writers(scratch, count, rng, report):
    """Injects `count` faults of processes that publish, and of refreshers' leases."""
    from realm_tf.chaos import writer_faults

    kinds = [writer_faults.killed_writer, writer_faults.stopped_refresher, writer_faults.two_refreshers]
    kinds.append(writer_faults.clock_jump)
    report.begin("writers", count)
    for n in range(count):
        report.add(kinds[n % len(kinds)](scratch, rng))


def disturb_stages(finished, arguments, scratch, count, rng, report):
    """Injects `count` faults of single stages and jobs: each is killed, then each has its disk filled up, and so on.

    The stages of a pipeline meet a read-only disk in the same line, so that one stands for all.
    """
    from realm_tf.chaos import small_disk, stage_faults

    if not count:
        return
    runs = stage_faults.StagedRuns(finished, arguments, os.path.join(scratch, "stages"))
    faults = [(stage_faults.killed, work) for work in runs.works]
    if small_disk.can_mount(scratch):
        jobs = [work for work in runs.works if work.is_job]
        faults += [(stage_faults.full_disk, work) for work in runs.works]
        faults += [(stage_faults.read_only_disk, work) for work in (rng.choice(runs.works), *jobs)]
    report.begin("stages and jobs", count)
    for n in range(count):
        kind, work = faults[n % len(faults)]
        report.add(kind(runs, work, rng))


def damage(finished, scratch, count, rng, report):
    """Injects `count` faults of a finished run's files, and of one training in this process."""
    from realm_tf.chaos import artifact_faults, small_disk, training_faults

    report.begin("files and trainings", count)
    run, training = artifact_faults.FinishedRun(finished, scratch), training_faults.Training(scratch)
    of_run = [artifact_faults.damaged_artifact] * 3 + [artifact_faults.damaged_index, artifact_faults.damaged_export]
    of_training = [training_faults.damaged_checkpoint, training_faults.killed, training_faults.runaway_loss]
    of_training.append(training_faults.damaged_checkpoints)
    if small_disk.can_mount(scratch):
        of_training += [training_faults.full_disk, training_faults.full_disk, training_faults.read_only_disk]
    else:
        print("full and read-only disks are left out: this process may not mount one", file=sys.stderr)
    faults = [(fault, run) for fault in (*of_run, artifact_faults.not_finite_embedder)]
    faults += [(fault, training) for fault in of_training]
    for n in range(count):
        fault, what = faults[n % len(faults)]
        report.add(fault(what, rng))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    flags.run(main)
