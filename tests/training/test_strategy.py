"""Training on several devices and in several processes against training on one; what XLA compiles."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.training import stages, strategy
from realm_tf.training.accumulation import Accumulation
from realm_tf.training.optimizer import BertAdamW
from realm_tf.training.run_context import RunContext
from realm_tf.training.traced import Traced, on_replicas
from tests.running import TINY, run_forked, start

# Small rates from the first step on: where a gradient is nearly 0, Adam multiplies its rounding error.
SETTINGS = ["encoder.dropout=0.0", "corpus.max_documents=12", "pretrain.refresh=never", "index.kind=exact"]
SETTINGS += ["warm_start.optimizer.learning_rate=1e-5", "pretrain.optimizer.learning_rate=1e-5"]
# Both halves of a batch have questions with an answer among all the blocks.
SETTINGS += ["finetune.batch_size=16", "finetune.retriever_beam=100"]
SETTINGS += ["finetune.optimizer.learning_rate=1e-5", "pretrain.span_weight=1.0", "finetune.max_span_width=4"]
CHECKPOINTS = {"warm_start": "warm_start", "pretrain": "pretrain", "finetune": "finetune/realm"}
QUICK_AND_SLOW = [
    pytest.param("pretrain"),
    *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("warm_start", "finetune")),
]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run that one device has warmed up and pre-trained."""
    run = tmp_path_factory.mktemp("one") / "run"
    context = RunContext(run, config_lib.load(TINY, SETTINGS))
    context.store_config()
    stages.run_stages(context, ("blocks", "queries", "questions", "warm_start", "pretrain"), [])
    return run


@pytest.fixture
def whole(request, pretrained):
    """The same run, fine-tuned too for a test of fine-tuning."""
    parameters = getattr(request.node, "callspec", None)
    if parameters and parameters.params.get("stage") == "finetune":
        stages.run_stages(RunContext(pretrained), ("finetune_realm",), [])
    return pretrained


def before(whole, stage, folder):
    """A copy of the run as that stage found it."""
    later = {"warm_start": ("warm_start", "embedder", "index", "pretrain", "reader", "finetune")}
    later["pretrain"] = ("index", "pretrain", "reader", "finetune")
    later["finetune"] = ("finetune",)
    run = shutil.copytree(whole, folder / stage, ignore=shutil.ignore_patterns(*later[stage]))
    if stage == "pretrain":
        shutil.copytree(whole / "index" / "step_0", run / "index" / "step_0")
        for name in ("done.json", "step_3", "step_6"):
            artifacts.remove(run / "embedder" / name) if name[0] == "s" else (run / "embedder" / name).unlink()
    return run


def state(run, stage):
    newest = artifacts.newest(run / CHECKPOINTS[stage] / "checkpoints")
    return newest[0], load_file(os.path.join(newest[1], "state.safetensors"))


def losses(run, stage):
    lines = (run / CHECKPOINTS[stage] / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"], line["gradient_norm"]) for line in map(json.loads, lines)]


def assert_same(run, whole, stage):
    (step, found), (other_step, expected) = state(run, stage), state(whole, stage)
    assert step == other_step and found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(losses(run, stage), losses(whole, stage), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stage", QUICK_AND_SLOW)
def test_two_devices_give_the_losses_and_weights_of_one(whole, tmp_path, stage):
    run = before(whole, stage, tmp_path)
    flags = (f"--workdir={run}", "--strategy=mirrored", "--logical_cpus=2")
    code, _, words = run_forked(tmp_path, f"realm_tf.{stage}", *flags)
    assert code == 0, words
    assert_same(run, whole, stage)


def test_two_devices_embed_as_one(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    artifacts.remove(run / "index" / "step_6")
    core = str(max(os.sched_getaffinity(0)))
    flags = (f"--workdir={run}", "--once", "--strategy=mirrored", "--logical_cpus=2", f"--refresh_devices={core}")
    code, _, words = run_forked(tmp_path, "realm_tf.refresh", *flags)
    assert code == 0, words
    found, expected = (np.load(r / "index" / "step_6" / "embeddings.npy") for r in (run, whole))
    np.testing.assert_allclose(found, expected, atol=1e-6)


# === Several processes ===


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Workers:
    """`python -m module` as two workers on loopback; each one's words in a file."""

    def __init__(self, folder, module, *flags):
        self._folder, self._command = folder, (module, "--strategy=multiworker", *flags)
        self._cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
        self.processes = [self.start(index) for index in (0, 1)]

    def start(self, index):
        task = {"cluster": self._cluster, "task": {"type": "worker", "index": index}}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
        environment["TF_CONFIG"] = json.dumps(task)
        with open(self._folder / f"worker_{index}.txt", "a") as words:
            return start(*self._command, env=environment, stdout=words, stderr=subprocess.STDOUT)

    def words(self):
        return "\n".join((self._folder / f"worker_{index}.txt").read_text() for index in (0, 1))

    def end(self, seconds=240):
        try:
            for process in self.processes:
                assert process.wait(seconds) == 0, self.words()
        finally:
            for process in self.processes:
                process.kill()  # nothing, where it has ended


@pytest.mark.slow
@pytest.mark.parametrize("stage", CHECKPOINTS)
def test_two_processes_give_the_losses_and_weights_of_one(whole, tmp_path, stage):
    run = before(whole, stage, tmp_path)
    Workers(tmp_path, f"realm_tf.{stage}", f"--workdir={run}").end()
    assert_same(run, whole, stage)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_comes_back_and_the_run_ends_as_an_undisturbed_one(whole, tmp_path, victim):
    """The index stays that of the start: weights are compared. The next test has a refresher."""
    runs = []
    for name in ("undisturbed", "killed"):
        run = before(whole, "pretrain", tmp_path / name)
        config = artifacts.read_json(run / "config.json")
        config["pretrain"] |= {"steps": 240, "publish_steps": 20, "eval_steps": 240}
        artifacts.write_json(run / "config.json", config)
        workers = Workers(tmp_path / name, "realm_tf.pretrain", f"--workdir={run}")
        if name == "killed":
            wait_for(lambda run=run: (artifacts.newest(run / "pretrain" / "checkpoints") or (0,))[0] >= 60)
            workers.processes[victim].send_signal(signal.SIGKILL)
            workers.processes[victim].wait()
            workers.processes[victim] = workers.start(victim)
        workers.end()
        runs.append(run)
    assert "another worker is gone" in workers.words()
    assert_same(runs[1], runs[0], "pretrain")


@pytest.mark.slow
def test_a_killed_worker_beside_a_refresher_of_its_own_process(whole, tmp_path):
    """Indexes arrive when they do, so that weights differ; both runs end at the last step, each step has one index."""
    run = before(whole, "pretrain", tmp_path)
    config = artifacts.read_json(run / "config.json")
    config["pretrain"] |= {"steps": 600, "publish_steps": 20, "eval_steps": 600}
    artifacts.write_json(run / "config.json", config)
    workers = Workers(tmp_path, "realm_tf.pretrain", f"--workdir={run}", "--refresh=never")
    refresher = start("realm_tf.refresh", f"--workdir={run}", "--poll_seconds=0.25")
    wait_for(lambda: (artifacts.newest(run / "pretrain" / "checkpoints") or (0,))[0] >= 100)
    workers.processes[1].send_signal(signal.SIGKILL)
    workers.processes[1].wait()
    workers.processes[1] = workers.start(1)
    workers.end(400)
    assert refresher.wait(120) == 0, refresher.stderr.read()
    swaps = [json.loads(line) for line in (run / "pretrain" / "swaps.jsonl").read_text().splitlines()]
    assert swaps and all(a["step"] < b["step"] for a, b in zip(swaps, swaps[1:], strict=False))
    assert all(line["index_step"] <= line["step"] for line in swaps)
    assert artifacts.newest(run / "index")[0] == artifacts.newest(run / "embedder")[0] == 600
    assert state(run, "pretrain")[0] == 600


@pytest.mark.slow
def test_workers_end_together_where_one_alone_would_end(tmp_path):
    workers = Workers(tmp_path, "tests.training.ending_alone", f"--folder={tmp_path}")
    workers.end(120)
    # Worker 1 would end after step 3, worker 0 never before step 50.
    assert workers.words().count("ended after step 3") == 2
    assert artifacts.newest(tmp_path / "checkpoints")[0] == 3


def wait_for(condition, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# === XLA ===


@pytest.mark.slow
@pytest.mark.parametrize("stage", CHECKPOINTS)
def test_the_step_compiles_whole_and_gives_the_same(whole, tmp_path, stage):
    run = before(whole, stage, tmp_path)
    config = artifacts.read_json(run / "config.json")
    config["encoder"]["jit_compile"] = True
    artifacts.write_json(run / "config.json", config)
    code, _, words = run_forked(tmp_path, f"realm_tf.{stage}", f"--workdir={run}")
    assert code == 0, words
    assert_same(run, whole, stage)


def test_an_operation_that_xla_has_not_ends_the_step():
    batch = {"token_ids": tf.constant([[1, 1, 2]])}
    fine = on_replicas(lambda batch: tf.reduce_sum(batch["token_ids"]), jit_compile=True)
    assert fine(batch) == 4
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compilable|unsupported|uncompilable"):
        on_replicas(lambda batch: tf.strings.length(tf.strings.as_string(batch["token_ids"])), jit_compile=True)(batch)


def test_the_parts_of_a_step_are_compiled_too():
    weight = keras.Variable([1.0], name="weight")
    optimizer = BertAdamW([weight], config_lib.OptimizerConfig(), 10)
    batches = [{"token_ids": tf.constant([[1, 1, 2]])}] * 2
    others = tf.constant(0.0), tf.constant(1, tf.int64)

    def steps_with(measure):
        def gradients_of(batch, number, part, parts):
            return [weight.value * 2.0], {"loss": measure(batch["token_ids"])}

        return Accumulation(gradients_of, optimizer, jit_compile=True)

    figures = steps_with(tf.reduce_sum).step(batches, *others)
    # Two parts of 1 + 1 + 2 each, and of a gradient of 2 each.
    assert figures["loss"] == 8 and figures["gradient_norm"] == 4
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compilable|unsupported|uncompilable"):
        steps_with(lambda ids: tf.strings.length(tf.strings.as_string(ids[0, 0]))).step(batches, *others)


# === Traces ===


def test_one_trace_whatever_the_lengths():
    traces = []

    def function(batch, number):
        traces.append(batch["token_ids"].shape)
        return tf.reduce_sum(batch["token_ids"]) + tf.shape(batch["mask_positions"])[1] + number

    traced = Traced(function)
    for length in (3, 5, 4):
        batch = {"token_ids": tf.ones([2, length], tf.int32), "mask_positions": tf.zeros([2, 7], tf.int32)}
        assert traced(batch, tf.constant(1)) == 2 * length + 7 + 1
    assert len(traces) == 1 and traces[0].as_list() == [None, None]
    # Another set of features is another function.
    traced({**batch, "slots": tf.zeros([2, 2], tf.int32)}, tf.constant(1))
    assert len(traces) == 2
    # A dimension that nobody knew to differ makes the trace more general, once.
    for masks in (8, 9, 7):
        batch["mask_positions"] = tf.zeros([2, masks], tf.int32)
        traced(batch, tf.constant(1))
    assert len(traces) == 3


# === Wrong flags ===


def test_without_a_strategy_there_is_one_of_everything():
    assert strategy.replicas() == strategy.workers() == strategy.local_replicas() == 1 and strategy.is_chief()
    assert strategy.of_all(7) == [7] and strategy.share(6) == slice(0, 6)
    assert strategy.together({"loss": 1.0}) == {"loss": 1.0}


@pytest.mark.parametrize(
    "value", ["", "{}", "[1]", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}']
)
def test_a_wrong_cluster_is_told(monkeypatch, value):
    monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(UserError, match="TF_CONFIG must be like"):
        strategy.make("multiworker")


@pytest.mark.parametrize(
    "cpus, settings, words",
    [
        (3, {}, "a batch of 4 cannot be divided among 3 replicas: make it a multiple of 3"),
        # 12 is a multiple of 4 and of 2, but 6 queries of a replica are not 4 parts of as many.
        (2, {"batch_size": 12, "micro_batches": 4}, "among 2 replicas, each in 4 parts (pretrain.micro_batches)"),
    ],
)
def test_what_cannot_be_divided_is_told(whole, tmp_path, cpus, settings, words):
    run = before(whole, "pretrain", tmp_path)
    config = artifacts.read_json(run / "config.json")
    config["pretrain"] |= settings
    artifacts.write_json(run / "config.json", config)
    flags = (f"--workdir={run}", "--strategy=mirrored", f"--logical_cpus={cpus}")
    code, _, found = run_forked(tmp_path, "realm_tf.pretrain", *flags)
    assert code == 2 and words in found and "Traceback" not in found


@pytest.mark.parametrize("value, words", [("99", "this process may use the devices 0, "), ("x", "give numbers")])
def test_wrong_refresh_devices_are_told(whole, tmp_path, value, words):
    code, _, found = run_forked(tmp_path, "realm_tf.refresh", f"--workdir={whole}", f"--refresh_devices={value}")
    assert code == 2 and words in found and "Traceback" not in found


def test_a_tpu_that_is_not_there_is_told():
    with pytest.raises(UserError, match="no TPU is reached as 'nowhere'"):
        strategy.make("tpu", "nowhere")
