"""The index refresher: follows the newest published embedder with a new index, until training is done.

  python -m realm_tf.refresh --workdir=runs/mine
  python -m realm_tf.refresh --workdir=runs/mine --by=beam -- --direct_num_workers=2 \\
      --direct_running_mode=multi_processing

Waits for a WORKDIR/embedder/step_N that has no index yet, skips embedders overtaken meanwhile, embeds all blocks,
publishes WORKDIR/index/step_N. Ends when WORKDIR/embedder/done.json says that training is over; an index that is not
the last by then is given up, for nobody will search it. Options of Beam's runners follow `--`. See docs/refresh.md.
"""

from absl import flags as absl_flags

from realm_tf import flags

WORKDIR = flags.define_workdir()
ONCE = absl_flags.DEFINE_bool("once", False, "Refresh once from the newest embedder, then end.")
PARENT = absl_flags.DEFINE_integer(
    "parent", 0, "Process id of the trainer that started this: end when it ends, also if it was killed. 0: go on alone."
)
WAIT = absl_flags.DEFINE_bool(
    "wait", False, "Where another refresher is at work: wait and take its place, instead of saying so and ending."
)
BY = absl_flags.DEFINE_enum(
    "by", "process", ["process", "beam"], "What embeds: this process, or the Beam job beam_jobs.embed_blocks."
)
POLL_SECONDS = absl_flags.DEFINE_float(
    "poll_seconds", None, "Longest pause between looks for an embedder. Default: 1 on local disk, 10 elsewhere.", 0.01
)
STRATEGY = flags.define_strategy()
DEVICES = flags.define_refresh_devices()


def main(argv):
    from realm_tf.errors import UserError
    from realm_tf.training.refresh_loop import RefreshLoop
    from realm_tf.training.refresher import Refresher
    from realm_tf.training.run_context import RunContext

    if argv[1:] and BY.value != "beam":
        raise UserError("options after -- are those of Beam: give --by=beam as well")
    if STRATEGY[0].value == "multiworker":
        raise UserError("--strategy=multiworker: a refresher is one process; give one, mirrored or tpu")
    flags.divide_host(DEVICES, takes=True)
    with flags.strategy_scope(STRATEGY):
        context = RunContext(WORKDIR.value)
        refresher = Refresher(context.workdir, context.config.index, BY.value, argv[1:])
        RefreshLoop(refresher, ONCE.value, PARENT.value, POLL_SECONDS.value).run(WAIT.value)


if __name__ == "__main__":
    flags.run(main)
