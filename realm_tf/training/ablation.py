"""Arms: the same run with one thing changed, and the systems that it is compared with (REALM tables 1 and 2).

Arms of one seed share every stage that their configurations make alike, as hard links: the corpus is cut once, the
retriever warmed up once, and what differs in fine-tuning alone shares the pre-training too.
"""

import dataclasses
import glob
import os
import shutil

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.progress import say
from realm_tf.report import ablation_report
from realm_tf.training import config_changes, stages
from realm_tf.training.evaluation import evaluate
from realm_tf.training.finetune import finetune
from realm_tf.training.held_out import UTILITY
from realm_tf.training.metric_log import read_metrics
from realm_tf.training.run_context import CONFIG, RunContext
from realm_tf.training.stage_clock import stage_clock

RESULT = "ablation.json"
PREPARATION = ("blocks", "queries", "questions", "warm_start", "pretrain", "zero_shot")


@dataclasses.dataclass(frozen=True)
class Arm:
    """A row of the table.

    title: as the paper calls it. overrides: `section.field=value` beside the configuration's own. system: a value of
    `evaluate --system`. paper: the paper's exact match on the dev questions of Natural Questions and its zero-shot
    recall@5, in percent; None where it has none.
    """

    title: str
    overrides: tuple = ()
    system: str = "realm"
    paper: tuple = (None, None)


ARMS = {
    "realm": Arm("REALM", paper=(38.2, 38.5)),
    "realm_retriever": Arm("REALM retriever + baseline encoder", ("finetune.reset=encoder",), paper=(37.4, 38.5)),
    "realm_encoder": Arm("Baseline retriever + REALM encoder", ("finetune.reset=retriever",), paper=(35.3, 13.9)),
    "orqa": Arm("Baseline (ORQA)", system="orqa", paper=(31.3, 13.9)),
    "token": Arm("REALM with random uniform masks", ("pretrain.masking=token",), paper=(32.3, 24.2)),
    "span": Arm("REALM with random span masks", ("pretrain.masking=span",), paper=(35.3, 26.1)),
    "whole_word": Arm("REALM with random whole-word masks", ("pretrain.masking=whole_word",)),
    "stale": Arm("30 × stale MIPS", ("pretrain.refresh_every=30",), paper=(28.7, 15.1)),
    "no_null": Arm("REALM without the null document", ("pretrain.null_candidate=False",)),
    "trivial": Arm("REALM with trivial candidates", ("pretrain.exclude=none",)),
    "frozen_retriever": Arm("REALM, retriever frozen", ("pretrain.retriever_rate=0.0",)),
    "frozen_reader": Arm("REALM, reader frozen", ("pretrain.reader_rate=0.0",)),
    "float32": Arm("REALM in float32", ("encoder.dtype=float32",)),
    "xla": Arm("REALM, steps compiled by XLA", ("encoder.jit_compile=True",)),
    "bm25": Arm("BERT on BM25's passages", system="bm25"),
    "closed_book": Arm("Closed book", system="closed_book"),
}


def ablate(workdir, load_config, arms, seeds, split, command):
    """Trains and evaluates arms, seed by seed; goes on where a stopped call was.

    Args:
      workdir: where the runs go, WORKDIR/seed_S/ARM, and the result, `ablation.json`, `ablation.md`, `ablation.png`.
      load_config: overrides -> `Config`.
      arms: names of `ARMS`. seeds: ints.
      split: the questions of the table, "dev" as in the paper or "test".
      command: for the record.

    Returns: the rows. Raises `UserError` for an unknown arm, no seed, or a configuration without questions.
    """
    unknown = [name for name in arms if name not in ARMS]
    if unknown or not arms:
        raise UserError(f"--arms={','.join(unknown)}: known are {', '.join(ARMS)}")
    if not seeds:
        raise UserError("say at least one seed: --seeds=1,2,3")
    config = load_config(())
    if not any(getattr(question_set, split) for question_set in config.questions):
        raise UserError(f"{config.name} has no {split} questions to measure by: give --split=dev or test, or add them")
    with stages.only_one(workdir):
        path = os.path.join(workdir, RESULT)
        result = {"config": config.name, "split": split, "command": command, "created": artifacts.now(), "rows": []}
        if os.path.exists(path):
            result = {**artifacts.read_json(path), "command": command}
            if result["split"] != split:
                raise UserError(f"{path} is of the {result['split']} questions: give --split={result['split']}")
        todo = [(seed, name) for seed in seeds for name in arms]
        for number, (seed, name) in enumerate(todo, 1):
            if any(row["arm"] == name and row["seed"] == seed for row in result["rows"]):
                say(f"arm {name}, seed {seed}: complete, skipped")
                continue
            say(f"arm {name}, seed {seed} ({number} of {len(todo)}) ...")
            row = _run_arm(workdir, load_config, name, seed, split, command)
            result["rows"].append({"arm": name, "seed": seed, **row})
            result["created"] = artifacts.now()
            artifacts.write_json(path, result)
            # An arm takes minutes: the table is there to look at while the others run.
            ablation_report.write(workdir, result, ARMS)
        print(ablation_report.write(workdir, result, ARMS))
    return result["rows"]


def _run_arm(workdir, load_config, name, seed, split, command):
    arm = ARMS[name]
    config = load_config((*arm.overrides, f"seed={seed}"))
    # A system that changes nothing before fine-tuning lives in the run that it is compared with.
    run = os.path.join(workdir, f"seed_{seed}", name if arm.overrides else "realm")
    _share(run, config)
    config_changes.refuse_stored(run, config, stages.NAMES)
    context = RunContext(run, config)
    context.store_config()
    before = _seconds(run)
    own = "finetune_" + arm.system
    stages.run_stages(context, (*PREPARATION, own), command)
    clock = os.path.join(run, "stages", f"ablation_{arm.system}.unfinished.json")
    with stage_clock(clock) as seconds:
        if own not in stages.NAMES and not artifacts.is_complete(context.path("finetune", arm.system, "model")):
            finetune(context, arm.system)
        output = context.path("ablation", f"{arm.system}.{split}.json")
        measured = evaluate(context, context.questions(split), output, arm.system)
        total = seconds()
    os.remove(clock)
    ran = {stage: value for stage, value in _seconds(run).items() if stage not in before}
    return _row(context, arm, measured) | {"seconds": round(sum(ran.values()) + total, 1)}


def _share(run, config):
    """What other arms have made alike comes from them, from the one that has most of it."""
    if os.path.exists(os.path.join(run, CONFIG)):
        return
    new, found = config_lib.to_dict(config), []
    for path in sorted(glob.glob(os.path.join(glob.escape(os.path.dirname(run)), "..", "seed_*", "*", CONFIG))):
        first = config_changes.first_concerned(artifacts.read_json(path), new, stages.NAMES)
        alike = stages.NAMES[: stages.NAMES.index(first)] if first else stages.NAMES
        other = os.path.dirname(path)
        made = sum(os.path.exists(stages.marker(other, stage)) for stage in alike)
        found.append((made, other, first))
    if not found:
        return
    _, source, first = max(found, key=lambda item: item[0])
    aside = os.path.join(os.path.dirname(run), f".sharing-{os.path.basename(run)}")
    shutil.rmtree(aside, ignore_errors=True)
    stages.share(source, aside, first)
    artifacts.write_json(os.path.join(aside, CONFIG), new)
    # A kill leaves the directory aside, which the next call makes anew.
    os.rename(aside, run)


def _seconds(run):
    markers = {name: stages.marker(run, name) for name in stages.NAMES}
    return {name: artifacts.read_json(path)["seconds"] for name, path in markers.items() if os.path.exists(path)}


def _row(context, arm, measured):
    """Exact match of the questions; recall of the retriever before it saw a question; utility and loss at the end."""
    recall, held_out = measured, {}
    if arm.system in ("realm", "orqa"):
        zero_shot = artifacts.read_json(stages.marker(context.workdir, "zero_shot"))["result"]
        is_baseline = arm.system == "orqa" or context.config.finetune.reset == "retriever"
        recall = zero_shot["ict" if is_baseline else "realm"]
        if not is_baseline:
            evaluations = [line for line in read_metrics(context.path("pretrain")) if UTILITY in line]
            held_out = evaluations[-1] if evaluations else {}
    names = ("recall_at_5", "recall_at_20")
    return {
        "exact_match": measured["exact_match"],
        **{name: recall.get(name) for name in names},
        "retrieval_utility": held_out.get(UTILITY),
        "held_out_loss": held_out.get("held_out_loss"),
    }
