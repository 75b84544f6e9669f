"""The devices of a training stage: one, several of a host, several hosts, a TPU slice (tf.distribute).

A stage runs in the scope of a strategy. A step's batch is then as many parts as there are replicas (times
`pretrain.micro_batches`), whose losses add up to that of the whole batch: what normalises a loss is summed over the
replicas within the step (`with_totals`), and so are gradients, so that every replica makes the same update of its own
copy of the weights. Outside of a scope there is one replica, and nothing of this costs anything.
"""

import concurrent.futures
import functools
import json
import os
import signal

import numpy as np
import tensorflow as tf

from realm_tf.errors import UserError
from realm_tf.training import rendezvous

TOTAL = "_total"  # how the features end that normalise a loss: sums over all replicas
SUM = tf.distribute.ReduceOp.SUM
# What the operations between workers end with when one of them does.
PEER_GONE = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)


# === Which ===


def make(name="one", tpu="", logical_cpus=1):
    """A `tf.distribute.Strategy`. Call it before TensorFlow has done anything.

    Args:
      name: "one" device; "mirrored", all accelerators of this host; "multiworker", all accelerators of the hosts that
        the environment variable TF_CONFIG lists; "tpu", a slice.
      tpu: name or address of the slice; "" for the one that this machine belongs to.
      logical_cpus: devices that a host without accelerators is divided into.

    Raises: `UserError` if there is no such device, or TF_CONFIG does not say which host this is.
    """
    if name == "one":
        return tf.distribute.get_strategy()
    if name == "tpu":
        return _tpu(tpu)
    if logical_cpus > 1:
        cpus = [tf.config.LogicalDeviceConfiguration()] * logical_cpus
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], cpus)
    if name == "multiworker":
        rendezvous.meet(*_require_cluster())
        made = tf.distribute.MultiWorkerMirroredStrategy()
        # Its runtime takes SIGTERM from the process, to note it and go on.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        return made
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _tpu(name):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, OSError, tf.errors.OpError) as error:
        raise UserError(f"--strategy=tpu: no TPU is reached as {name!r} ({error}): name it with --tpu") from error
    return tf.distribute.TPUStrategy(resolver)


def divide_host(refresh_devices, takes):
    """Restricts this process to some devices of its host; before TensorFlow has done anything.

    Args:
      refresh_devices: numbers of the refresher's accelerators, or, on a host that has none, of its processor cores, as
        `taskset` counts them.
      takes: whether this process is the refresher; the trainer gets the others.

    Raises: `UserError` if there is no such device, or none is left.
    """
    gpus = dict(enumerate(tf.config.list_physical_devices("GPU")))
    # A refresher that a trainer starts begins with the trainer's cores, which are not its own.
    devices = gpus or (range(os.cpu_count()) if takes else sorted(os.sched_getaffinity(0)))
    unknown = sorted(set(refresh_devices) - set(devices))
    if unknown:
        has = ", ".join(map(str, devices))
        raise UserError(f"--refresh_devices={unknown[0]}: this process may use the devices {has} of this host")
    own = [number for number in devices if (number in refresh_devices) == takes]
    if not own:
        raise UserError(f"--refresh_devices: all {len(devices)} devices of this host; leave one to the trainer")
    if gpus:
        tf.config.set_visible_devices([gpus[number] for number in own], "GPU")
        return
    try:
        os.sched_setaffinity(0, own)
    except OSError as error:
        raise UserError(f"--refresh_devices={','.join(map(str, own))}: {error.strerror}: cores of others") from error


def _require_cluster():
    """(["host:port"] of all workers, number of this one) by the environment."""
    needed = '{"cluster": {"worker": ["host0:port", "host1:port"]}, "task": {"type": "worker", "index": 0}}'
    try:
        value = json.loads(os.environ["TF_CONFIG"])
        workers, task = value["cluster"]["worker"], value["task"]
        known = task["type"] == "worker" and 0 <= task["index"] < len(workers) and all(":" in name for name in workers)
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise UserError(f"--strategy=multiworker: the environment variable TF_CONFIG must be like {needed}")
    return workers, task["index"]


# === Where this process stands ===


def replicas():
    """How many replicas a step has, over all hosts."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def local_replicas():
    """How many of them this process has."""
    return replicas() // workers()


def workers():
    """How many processes train together."""
    return len(_cluster().get("worker", [0]))


def worker():
    """Which of them this is, from 0."""
    return tf.distribute.get_strategy().cluster_resolver.task_id if _cluster() else 0


def is_chief():
    """Whether this process writes what all of them make."""
    return worker() == 0


def _cluster():
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return {}
    return strategy.cluster_resolver.cluster_spec().as_dict()


def share(batch_size, parts=1):
    """The slice of a step's queries that is this process'; each replica works on its own in so many parts.

    Raises `UserError` if they cannot be divided evenly.
    """
    if batch_size % (replicas() * parts):
        each = f", each in {parts} parts (pretrain.micro_batches)" if parts > 1 else ""
        raise UserError(
            f"a batch of {batch_size} cannot be divided among {replicas()} replicas{each}: make it a multiple of "
            f"{replicas() * parts}"
        )
    size = batch_size // workers()
    return slice(worker() * size, (worker() + 1) * size)


def compiles_by_shape():
    """Whether the devices compile a program for each shape, and know no dimensions that vary."""
    return isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)


def wants_static_shapes(config):
    """Whether the batches of training are to have one shape."""
    return config.encoder.jit_compile or compiles_by_shape()


def outside(function, *arguments):
    """What a function gives out of the scope: SavedModels are not loaded, and searched, as copies on every replica."""
    if replicas() == 1:
        return function(*arguments)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:  # scopes are a thread's own
        return thread.submit(function, *arguments).result()


# === Between processes, all of which call these, in the same order, from their main threads ===


def of_all(value):
    """[int] of the workers, in their order; that of this one alone where there are no others."""
    if workers() == 1:
        return [value]
    found = _gather(tf.distribute.get_strategy())(tf.constant(value, tf.int64)).numpy()
    return [int(v) for v in found[:: local_replicas()]]


def barrier():
    """Returns once all workers have come here."""
    of_all(0)


def chief_first(function):
    """What a function gives; the others call it when the chief, who may mend what it finds, has done with it."""
    if is_chief():
        value = function()
        barrier()
        return value
    barrier()
    return function()


@functools.cache
def _gather(strategy):
    def on_a_replica(value):
        return tf.distribute.get_replica_context().all_gather(value[None], axis=0)

    return tf.function(lambda value: strategy.experimental_local_results(strategy.run(on_a_replica, (value,)))[0])


# === Around a step ===


def spread(function):
    """`function` of tensors on each replica; what the first one of this process gives, which all give alike.

    An argument may be of `per_replica`.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return function

    def run(*arguments):
        results = strategy.run(function, arguments)
        return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], results)

    return run


def per_replica(values):
    """One value (nested) for each replica of this process; itself where there is one."""
    if replicas() == 1:
        return values[0]
    first = worker() * local_replicas()
    return tf.distribute.get_strategy().experimental_distribute_values_from_function(
        lambda context: values[int(context.replica_id_in_sync_group) - first]
    )


def over_rows(function):
    """`function` of int32 arrays [R, ...] with the rows divided among the replicas of this process: array to array.

    function: tensors to float32 [R, ...], row by row.
    """
    strategy, count, varies = tf.distribute.get_strategy(), local_replicas(), not compiles_by_shape()
    divided = tf.function(lambda parts: strategy.run(lambda part: function(*part), (parts,)), reduce_retracing=varies)

    def run(*arrays):
        rows = len(arrays[0])
        size = -(-rows // count)
        # Each has as many: the last row stands in where there are too few.
        places = np.minimum(np.arange(count * size), rows - 1).reshape(count, size)
        parts = [tuple(tf.constant(array[own]) for array in arrays) for own in places]
        found = strategy.experimental_local_results(divided(per_replica(parts)))
        return np.concatenate([value.numpy() for value in found])[:rows]

    return run


def parts_of(value):
    """The tensors of the replicas of this process."""
    return tf.distribute.get_strategy().experimental_local_results(value)


def spec_like(value, spec):
    """The type of a value of `per_replica` with that `tf.TensorSpec` on each replica; the spec itself for a tensor."""
    if isinstance(value, tf.Tensor):
        return spec
    return type(tf.type_spec_from_value(value))(*[spec] * len(parts_of(value)))


# === Within a step, on a replica ===


def replica():
    """The number of this replica, int64 scalar."""
    if replicas() == 1:
        return tf.constant(0, tf.int64)
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)


def summed(values):
    """A nest of tensors, each summed over the replicas."""
    if replicas() == 1:
        return values
    # As tensors of this replica's device: arguments of a function have none.
    return tf.distribute.get_replica_context().all_reduce(SUM, tf.nest.map_structure(tf.identity, values))


def with_totals(batch):
    """The batch of a replica with the totals of all replicas in place of its own."""
    own = {name: value for name, value in batch.items() if name.endswith(TOTAL)}
    return {**batch, **summed(own)} if own else batch


def gathered(values_BD):
    """What all replicas have, [R * B, D] in their order, and the first row of this one's. Gradients reach all."""
    if replicas() == 1:
        return values_BD, 0
    rows = tf.shape(values_BD)[0]
    all_GD = tf.distribute.get_replica_context().all_gather(values_BD, axis=0)
    return all_GD, tf.cast(replica(), tf.int32) * rows


def together(measures):
    """{name: scalar} of the replicas as one: losses added up, others averaged; of those that are not NaN."""
    if replicas() == 1:
        return measures
    names = sorted(measures)
    values = tf.stack([tf.cast(measures[name], tf.float32) for name in names])
    known = tf.logical_not(tf.math.is_nan(values))
    sums, counts = summed([tf.where(known, values, 0.0), tf.cast(known, tf.float32)])
    means = tf.where(counts > 0, sums / tf.maximum(counts, 1.0), float("nan"))
    sums = tf.where(counts > 0, sums, float("nan"))
    return {name: sums[i] if is_loss(name) else means[i] for i, name in enumerate(names)}


def is_loss(name):
    """Whether a measure is a share of the step's, to be added up, rather than a mean."""
    return name == "loss" or name.endswith("_loss")
