"""The index refresher: follows the newest published embedder with a new index, until training is done.

  python -m realm_tf.refresh --workdir=runs/mine

Waits for WORKDIR/embedder/step_N newer than the newest index, skips embedders overtaken meanwhile, embeds all blocks,
publishes WORKDIR/index/step_N. Ends when WORKDIR/embedder/done.json says that training is over; an index that is not
the last by then is given up, for nobody will search it.
"""

import os

from absl import flags as absl_flags

from realm_tf import flags

WORKDIR = flags.define_workdir()
ONCE = absl_flags.DEFINE_bool("once", False, "Refresh once from the newest embedder, then end.")
PARENT = absl_flags.DEFINE_integer(
    "parent", 0, "Process id of the trainer that started this: end when it ends, also if it was killed. 0: go on alone."
)


def main(_):
    from realm_tf import artifacts
    from realm_tf.progress import say
    from realm_tf.training.pretrain import DONE
    from realm_tf.training.refresher import OvertakenError, Refresher, paths
    from realm_tf.training.run_context import RunContext

    context = RunContext(WORKDIR.value)
    _, embedder_dir, index_dir = paths(context.workdir)
    settings = context.config.index
    refresher = Refresher(context.workdir, settings.kind, settings.keep, settings)
    done = os.path.join(embedder_dir, DONE)
    newest_index = artifacts.newest(index_dir)
    step = newest_index[0] if newest_index else -1

    def is_orphan():
        # An orphan takes another parent: training was killed, and the run that resumes it starts its own refresher.
        return PARENT.value and os.getppid() != PARENT.value

    def stop():
        return ONCE.value or is_orphan() or os.path.exists(done)

    def check():
        if is_orphan() or (os.path.exists(done) and artifacts.newest(embedder_dir)[0] > step):
            raise OvertakenError

    while found := artifacts.wait_newer(embedder_dir, step, stop):
        step, embedder = found
        try:
            refresher.refresh_once(step, embedder, check)
        except OvertakenError:
            say(f"the index of step {step} is given up: training has ended")


if __name__ == "__main__":
    flags.run(main)
