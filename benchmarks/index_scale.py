"""Indexes of N blocks side by side: build, memory, latency, throughput, recall.

  python benchmarks/index_scale.py --blocks=1000000 --output=scale.json --kinds=scann,ivf,exact,faiss_ivfpq
  python benchmarks/index_scale.py --embeddings=index/step_0/embeddings.npy --queries=queries.npy --output=real.json

Embeddings are drawn by benchmarks/clustered.py, or given, with queries that benchmarks/sentence_queries.py makes.
Each index is built by a process of its own and served by another, so that peaks of memory are real: what is served is
what a fresh process loaded from disk. Every index is then set to search just so much that its recall@5 reaches --recall
(its row says if none does), and measured in --rounds rounds, in which the indexes take turns where all of them fit into
memory together (else --together=false). FAISS is the package faiss-cpu (extra `bench`): flat; IVF with 4-bit product
quantization of 2 dimensions a code and re-ranking in float16; HNSW.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
from absl import flags as absl_flags

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from realm_tf import flags  # noqa: E402
from realm_tf.errors import UserError  # noqa: E402

OURS = ("scann", "ivf", "exact")
FAISS = ("faiss_flat", "faiss_ivfpq", "faiss_hnsw")
TEST_QUERIES = 1000

BLOCKS = absl_flags.DEFINE_integer("blocks", 100_000, "Number of blocks to draw.")
OUTPUT = absl_flags.DEFINE_string("output", None, "JSON file of the rows to write.")
KINDS = absl_flags.DEFINE_list("kinds", ["scann", "ivf", "exact"], f"Of {', '.join(OURS + FAISS)}.")
RECALL = absl_flags.DEFINE_float("recall", 0.97, "recall@5 at which the indexes are compared.")
ROUNDS = absl_flags.DEFINE_integer("rounds", 3, "Rounds of the measurement.")
TOGETHER = absl_flags.DEFINE_bool("together", True, "Keep all indexes loaded and let them take turns; else one by one.")
EMBEDDINGS = absl_flags.DEFINE_string("embeddings", None, "float32 .npy of real embeddings instead of drawn ones.")
QUERIES = absl_flags.DEFINE_string("queries", None, "float32 .npy of their queries; half of them tune, half test.")
SCRATCH = absl_flags.DEFINE_string(
    "scratch", None, "Folder for embeddings and indexes, which are taken over where it has them; by default it goes."
)
SET = absl_flags.DEFINE_multi_string("set", [], "Setting of our indexes: leaves=8000, precision=int8, ...")
ROLE = absl_flags.DEFINE_string("role", None, "Internal: data, build or serve.")
KIND = absl_flags.DEFINE_string("kind", None, "Internal: the index to build or serve.")


# === The processes ===


def main(_):
    if ROLE.value:
        return {"data": make_data, "build": build, "serve": serve}[ROLE.value](SCRATCH.value)
    if not OUTPUT.value:
        raise UserError("--output is missing: the JSON file to write")
    for kind in KINDS.value:
        if kind not in OURS + FAISS:
            raise UserError(f"--kinds: {kind!r} is unknown; known are {', '.join(OURS + FAISS)}")
    with contextlib.nullcontext(SCRATCH.value) if SCRATCH.value else tempfile.TemporaryDirectory() as folder:
        os.makedirs(folder, exist_ok=True)
        facts = _made_once("data", folder)
        built = {kind: _made_once("build", folder, kind) for kind in KINDS.value}
        groups = [KINDS.value] if TOGETHER.value else [[kind] for kind in KINDS.value]
        rows = [row for group in groups for row in _measured(folder, group, facts, built)]
    with open(OUTPUT.value, "w") as file:
        json.dump(rows, file, indent=2)
    for row in rows:
        print(json.dumps({name: value for name, value in row.items() if name != "frontier"}))


def _command(role, folder, kind=None):
    options = [f"--{name}={absl_flags.FLAGS[name].value}" for name in ("blocks", "recall")]
    options += [f"--{name}={value}" for name in ("embeddings", "queries") if (value := absl_flags.FLAGS[name].value)]
    options += [f"--set={value}" for value in SET.value] + ([f"--kind={kind}"] if kind else [])
    return [sys.executable, os.path.abspath(__file__), f"--role={role}", f"--scratch={folder}", *options]


def _made_once(role, folder, kind=None):
    """What `_child` says; of a folder in which the same was made before, what it said then."""
    names = ("blocks", "embeddings", "queries") + (("set",) if kind else ())
    asked = {name: absl_flags.FLAGS[name].value for name in names}  # --recall is tuned to anew, whoever built
    path = os.path.join(folder, f"{kind or role}.json")
    if os.path.exists(path):
        with open(path) as file:
            kept = json.load(file)
        if kept["asked"] != asked:
            raise UserError(f"{path} is of {kept['asked']}, not of {asked}: give another --scratch, or remove it")
        return kept["facts"]
    facts = _child(role, folder, kind)
    with open(path, "w") as file:
        json.dump({"asked": asked, "facts": facts}, file)
    return facts


def _child(role, folder, kind=None):
    """The JSON line that a process of that role ends with."""
    process = subprocess.run(_command(role, folder, kind), stdout=subprocess.PIPE, text=True)
    if process.returncode:
        raise RuntimeError(f"{role} {kind or ''} ended with {process.returncode}")
    return json.loads(process.stdout.splitlines()[-1])


class Server:
    """A process that serves one index and answers a word a line with a JSON line."""

    def __init__(self, folder, kind):
        command = _command("serve", folder, kind)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.loaded = self._answer()

    def ask(self, word):
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self):
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the server ended with {self._process.wait()}")

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def _measured(folder, kinds, facts, built):
    """A row for each kind, all of them measured in turns."""
    servers = {kind: Server(folder, kind) for kind in kinds}
    rounds = {kind: [] for kind in kinds}
    tuned = {kind: servers[kind].ask("tune") for kind in kinds}
    for _ in range(ROUNDS.value):
        for kind in kinds:
            rounds[kind].append(servers[kind].ask("measure"))
    rows = []
    for kind in kinds:
        end = servers[kind].ask("end")
        servers[kind].close()
        milliseconds = np.concatenate([figures["milliseconds"] for figures in rounds[kind]])
        per_second = [figures["batch_qps"] for figures in rounds[kind]]
        rows.append({
            "kind": kind, **facts, **built[kind], **servers[kind].loaded, **tuned[kind], **end,
            "p50_ms": round(float(np.percentile(milliseconds, 50)), 3),
            "p99_ms": round(float(np.percentile(milliseconds, 99)), 3),
            "batch_qps": round(float(np.median(per_second)), 1),
            "batch_qps_rounds": [round(value, 1) for value in per_second],
            "threads": os.cpu_count(), "load_average": os.getloadavg()[0],
        })  # fmt: skip
    return rows


# === Data ===


def make_data(folder):
    """Embeddings, queries to tune and to test with, and the best 20 blocks of each by exact search."""
    from benchmarks.clustered import Clustered
    from realm_tf.retrieval.exact_index import ExactIndex
    from realm_tf.retrieval.index import Rows

    path = _embeddings(folder)
    if EMBEDDINGS.value:
        queries = np.load(QUERIES.value)[: 2 * TEST_QUERIES]
    else:
        clustered = Clustered()
        clustered.write(path, BLOCKS.value)
        queries = clustered.queries(np.load(path, mmap_mode="r"), 2 * TEST_QUERIES)
    order = np.random.default_rng(0).permutation(len(queries))
    embeddings = Rows(path)
    for name, chosen in (("tune", order[: len(order) // 2]), ("test", order[len(order) // 2 :])):
        best, _ = ExactIndex(embeddings).search(queries[chosen], 20)
        np.save(os.path.join(folder, f"{name}_queries.npy"), queries[chosen])
        np.save(os.path.join(folder, f"{name}_best.npy"), best)
    print(json.dumps({"blocks": len(embeddings), "dim": embeddings.shape[1], "queries": len(order) - len(order) // 2}))


def _embeddings(folder):
    return EMBEDDINGS.value or os.path.join(folder, "embeddings.npy")


def _queries(folder, name):
    return np.load(os.path.join(folder, f"{name}_queries.npy")), np.load(os.path.join(folder, f"{name}_best.npy"))


# === Memory ===


class Peak:
    """The largest memory of this process that no file stands behind, looked at 20 times a second, GiB."""

    def __init__(self):
        self.anonymous = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while True:
            with open("/proc/self/status") as file:
                kib = next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
            self.anonymous = max(self.anonymous, kib / 2**20)
            time.sleep(0.05)


def _peak_gib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


# === Building ===


def build(folder):
    """Builds one index; prints seconds and peak memory."""
    peak, kind = Peak(), KIND.value
    path = os.path.join(folder, kind)
    if kind in FAISS:
        _import_faiss()
    else:
        import tensorflow  # noqa: F401  its import is not part of the build
    started = time.time()
    facts = _build_faiss(folder, kind, path) if kind in FAISS else _build_ours(folder, kind, path)
    size = sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(path) for name in names)
    print(json.dumps({
        "build_seconds": round(time.time() - started, 1), "build_peak_gib": round(_peak_gib(), 2),
        "build_peak_anonymous_gib": round(peak.anonymous, 2), "disk_gib": round(size / 2**30, 2), **facts,
    }))  # fmt: skip


def _build_ours(folder, kind, path):
    from realm_tf import artifacts, config
    from realm_tf.retrieval import index

    settings = config.overridden(config.IndexConfig(kind=kind, recall_floor=RECALL.value), SET.value)
    queries, _ = _queries(folder, "tune")
    with artifacts.publish(path, kind=kind) as (tmp, facts):
        facts.update(index.build(index.Rows(_embeddings(folder)), settings, tmp, lambda: queries[:300]))
    return {"settings": facts["settings"], "self_check": facts["recall_at_k"]}


def _import_faiss():
    try:
        import faiss
    except ImportError as error:
        raise UserError(f"FAISS cannot be imported ({error}): pip install 'realm-tf[bench]'") from error
    return faiss


def _build_faiss(folder, kind, path):
    from realm_tf.retrieval.index import Rows

    faiss = _import_faiss()
    embeddings = Rows(_embeddings(folder))
    count, dim = embeddings.shape
    lists = int(4 * count**0.5)
    factory = {
        "faiss_flat": "Flat", "faiss_hnsw": "HNSW32,Flat", "faiss_ivfpq": f"IVF{lists},PQ{dim // 2}x4fs,Refine(SQfp16)"
    }[kind]  # fmt: skip
    index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        sample = np.sort(np.random.default_rng(0).choice(count, min(count, 60 * lists), replace=False))
        index.train(np.asarray(embeddings[sample]))
    for start in range(0, count, 1 << 17):
        index.add(np.asarray(embeddings[start : start + (1 << 17)]))
    os.makedirs(path, exist_ok=True)
    faiss.write_index(index, os.path.join(path, "index.faiss"))
    return {"settings": {"factory": factory}}


# === Serving ===


def serve(folder):
    """Loads one index and answers "tune", "measure" and "end"."""
    started = time.time()
    served = (FaissServed if KIND.value in FAISS else OurServed)(os.path.join(folder, KIND.value))
    queries, best = _queries(folder, "test")
    served.search(queries[:1], 5)
    print(json.dumps({"load_seconds": round(time.time() - started, 1)}), flush=True)
    for word in map(str.strip, sys.stdin):
        if word == "tune":
            answer = _tune(served, *_queries(folder, "tune"))
        elif word == "measure":
            answer = _measure(served, queries)
        else:
            found = served.search(queries, 20)
            answer = {"serve_peak_gib": round(_peak_gib(), 2)}
            answer["recall_at_5"] = _recall(served.search(queries, 5), best, 5)
            answer["recall_at_20"] = _recall(found, best, 20)
        print(json.dumps(answer), flush=True)


class OurServed:
    """An index version of ours, loaded as every stage loads it."""

    def __init__(self, path):
        from realm_tf import artifacts
        from realm_tf.retrieval import index

        self._index = index.load(path)
        settings = artifacts.manifest(path)["settings"]
        self.most = settings.get("leaves", 0)
        self.knob = settings.get("leaves_searched", 0)
        self._variable = {"scann": "leaves_searched", "ivf": "lists_searched"}.get(KIND.value)

    def turn(self, knob):
        getattr(self._index._module, self._variable).assign(knob)
        self.knob = knob

    def search(self, queries, k):
        return self._index.search(queries, k)[0]


class FaissServed:
    """A FAISS index."""

    def __init__(self, path):
        faiss = _import_faiss()
        self._index = faiss.read_index(os.path.join(path, "index.faiss"))
        base = self._index
        self._base = None
        if KIND.value == "faiss_ivfpq":
            self._index.k_factor = 20  # re-ranks 100 for the best 5
            base = faiss.downcast_index(self._index.base_index)
            self._base, self._name, self.most = base, "nprobe", base.nlist
        elif KIND.value == "faiss_hnsw":
            self._base, self._name, self.most = faiss.downcast_index(base).hnsw, "efSearch", 4096
        else:
            self.most = 0
        self.knob = getattr(self._base, self._name) if self._base is not None else 0

    def turn(self, knob):
        setattr(self._base, self._name, knob)
        self.knob = knob

    def search(self, queries, k):
        return self._index.search(queries, k)[1]


def _recall(found, best, k):
    pairs = zip(found, best, strict=True)
    return round(float(np.mean([len(set(row[:k]) & set(wanted[:k])) / k for row, wanted in pairs])), 4)


def _tune(served, queries, best):
    """Turns an index to the least work whose recall@5 on the tuning queries reaches --recall; bisection."""
    if not served.most:
        return {"searched": 0, "frontier": [], "reached": True}
    frontier = {}

    def recall(knob):
        if knob not in frontier:
            served.turn(knob)
            started = time.perf_counter()
            value = _recall(served.search(queries, 5), best, 5)
            frontier[knob] = (value, len(queries) / (time.perf_counter() - started))
        return frontier[knob][0]

    low, high = 1, 2
    while recall(high) < RECALL.value and high < served.most:
        low, high = high, min(2 * high, served.most)
    while high - low > max(1, low // 16):
        middle = (low + high) // 2
        low, high = (low, middle) if recall(middle) >= RECALL.value else (middle, high)
    served.turn(high)
    points = [
        {"searched": knob, "recall_at_5": value, "batch_qps": round(per_second, 1)}
        for knob, (value, per_second) in sorted(frontier.items())
    ]
    return {"searched": high, "frontier": points, "reached": frontier[high][0] >= RECALL.value}


def _measure(served, queries):
    """Milliseconds of single queries, and queries a second in one batch."""
    milliseconds = []
    for number in range(min(len(queries), 300)):
        started = time.perf_counter()
        served.search(queries[number : number + 1], 5)
        milliseconds.append(1e3 * (time.perf_counter() - started))
    started = time.perf_counter()
    served.search(queries, 5)
    return {"milliseconds": milliseconds, "batch_qps": len(queries) / (time.perf_counter() - started)}


if __name__ == "__main__":
    flags.run(main)
