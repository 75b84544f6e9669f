"""The stages of a run: what each makes, whether it is complete, and what follows from redoing one."""

import contextlib
import dataclasses
import fcntl
import os
import shutil
from collections.abc import Callable

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.progress import say
from realm_tf.training import config_changes
from realm_tf.training.run_context import CONFIG, RunContext
from realm_tf.training.stage_clock import stage_clock


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage. outputs: paths below the working directory, removed when it is redone; the first is always made.

    Those of the comparators, which no stage makes (docs/comparators.md), go with what they were made from.
    """

    name: str
    run: Callable
    outputs: tuple


def _blocks(context):
    from beam_jobs import split_blocks

    corpus = context.config.corpus
    # The blocks that are searched come last: they are what says that the stage is complete.
    masked = corpus.pretrain_input, "pretrain_blocks", corpus.pretrain_skip_words
    for text, output, skip_words in (masked, (corpus.input, "blocks", 0)):
        if text:
            split_blocks.run(
                input=_inputs(text),
                output=context.path(output),
                vocabulary=str(context.tokenizer.path),
                max_block_length=corpus.max_block_length,
                drop_list_pages=corpus.drop_list_pages,
                max_documents=corpus.max_documents,
                skip_words=skip_words,
            )


def _inputs(text):
    from realm_tf.data.embedded import resolve_documents
    from realm_tf.data.source_paths import split_paths

    return [resolve_documents(part) for part in split_paths(text)]


def _queries(context):
    from beam_jobs import mark_salient_spans

    pretrain = context.config.pretrain
    mark_salient_spans.run(
        blocks=context.pretrain_blocks.path,
        output=context.path("queries"),
        max_span_pieces=pretrain.max_masks if pretrain.long_spans == "drop" else context.config.corpus.max_block_length,
        tagger=pretrain.tagger,
    )


def _questions(context):
    from beam_jobs import convert_questions
    from realm_tf.data.embedded import resolve

    inputs = {
        split: [
            (resolve(getattr(q, split)), q.answer_type, q.name, q.max_train if split == "train" else 0)
            for q in context.config.questions
            if getattr(q, split)
        ]
        for split in ("train", "dev", "test")
    }
    convert_questions.run(inputs, context.path("questions"))


def _warm_start(context):
    from realm_tf.training.warm_start import warm_start

    warm_start(context)


def _pretrain(context):
    from realm_tf.training.pretrain import pretrain

    result = pretrain(context)
    return {name: result[name] for name in ("refreshes", "max_lag_steps", "mean_lag_steps", "refresh_cost")}


def _zero_shot(context):
    from realm_tf.training import zero_shot
    from realm_tf.training.refresher import SearchableIndex

    fingerprint = context.blocks.manifest["corpus_fingerprint"]
    versions = {"ict": context.path("index", "step_0"), "realm": artifacts.newest(context.path("index"))[1]}
    result = {}
    if context.config.warm_start.measure_start:
        result["start"] = zero_shot.recall(context, build.load_retriever(context.path("warm_start", "start")))
    for name, path in versions.items():
        result[name] = zero_shot.recall_of_index(context, SearchableIndex(path, fingerprint))
    for name in zero_shot.lowered(result):
        step = {"ict": "the inverse cloze task", "realm": "REALM pre-training"}[name]
        say(f"warning: {step} has lowered the zero-shot mean reciprocal rank")
    return result


def _finetune(system):
    def run(context):
        from realm_tf.training.finetune import finetune

        finetune(context, system)

    return run


def _evaluate(context):
    from realm_tf.training.evaluation import evaluate

    result = {}
    for folder in (context.path("eval"), context.path("eval", "orqa")):
        artifacts.tidy(folder, alone=True)
    os.makedirs(context.path("eval"), exist_ok=True)
    for system in ("realm", "orqa"):
        for split in ("dev", "test"):
            questions = context.questions(split)
            if questions:
                output = evaluation_path(context, system, split)
                result.setdefault(system, {})[split] = evaluate(context, questions, output, system)
    return result


def evaluation_path(context, system, split):
    """The file of a system's measures: REALM's as the contract has it, another's in a folder of its own."""
    return context.path("eval", *(() if system == "realm" else (system,)), f"{split}.json")


def _export(context):
    from realm_tf.serving.bundle import export

    export(context)


def _report(context):
    from realm_tf.training.reporting import write_report

    write_report(context)


STAGES = (
    Stage("blocks", _blocks, ("blocks", "pretrain_blocks", "bm25")),
    Stage("queries", _queries, ("queries",)),
    Stage("questions", _questions, ("questions",)),
    Stage("warm_start", _warm_start, ("warm_start", "embedder")),
    Stage("pretrain", _pretrain, ("pretrain", "reader", "index", "index.lease", "refresh.log", "knn")),
    Stage("zero_shot", _zero_shot, ()),
    Stage("finetune_realm", _finetune("realm"), ("finetune/realm", "finetune/closed_book")),
    Stage("finetune_orqa", _finetune("orqa"), ("finetune/orqa", "finetune/bm25")),
    Stage("evaluate", _evaluate, ("eval",)),
    Stage("export", _export, ("export",)),
    Stage("report", _report, ("report",)),
)
NAMES = tuple(stage.name for stage in STAGES)
NEED_QUESTIONS = ("questions", "zero_shot", "finetune_realm", "finetune_orqa", "evaluate", "export")


def marker(workdir, stage_name):
    """The file that says a stage is complete: {"seconds", "result"}."""
    return os.path.join(workdir, "stages", f"{stage_name}.json")


def run_pipeline(workdir, config_path, overrides, data_dir, from_stage, to_stage, command):
    """Runs the stages of a configuration in `workdir`, up to `to_stage` if there is one; see `realm_tf.pipeline`.

    Raises `UserError` for an unknown stage, a missing configuration, one that differs from the run's in what earlier
    stages made, an input that does not exist, or a second pipeline in the same directory.
    """
    if not workdir:
        raise UserError("say where the run lives: --workdir=runs/demo")
    for flag, stage in (("from", from_stage), ("to", to_stage)):
        if stage and stage not in NAMES:
            raise UserError(f"--{flag}={stage}: no such stage; known are {', '.join(NAMES)}")
    names = NAMES[: NAMES.index(to_stage) + 1] if to_stage else NAMES
    if from_stage and from_stage not in names:
        raise UserError(f"--from={from_stage} comes after --to={to_stage}: give them in the order of the stages")
    if not config_path and (overrides or not os.path.exists(os.path.join(workdir, CONFIG))):
        raise UserError("say which configuration to run: --config=configs/demo.py")
    config = config_lib.load(config_path, overrides, data_dir) if config_path else None
    if config:
        config_changes.refuse_stored(workdir, config, NAMES, from_stage)
        _check_inputs(config)
    with only_one(workdir):
        if from_stage:
            _redo(workdir, STAGES[NAMES.index(from_stage) :])
        context = RunContext(workdir, config)
        context.store_config()
        run_stages(context, names, command)


def run_stages(context, names, command):
    """Runs the stages of these names, in their order; one whose output is complete is skipped and said to be."""
    for stage in STAGES:
        if stage.name in names:
            _run_stage(context, stage, command)


def share(source, target, before):
    """Gives a run what the stages before a stage have made in another run, as hard links: artifacts never change.

    Args:
      source, target: working directories, of configurations that make those stages alike. What `target` has stays.
      before: name of the first stage that is not shared; None shares all.
    """
    for stage in STAGES[: NAMES.index(before) if before else None]:
        if not os.path.exists(marker(source, stage.name)) or os.path.exists(marker(target, stage.name)):
            continue
        for output in stage.outputs:
            path, link = os.path.join(source, output), os.path.join(target, output)
            if os.path.isdir(path):
                shutil.copytree(path, link, copy_function=os.link, dirs_exist_ok=False)
            elif os.path.exists(path):
                os.link(path, link)
        os.makedirs(os.path.dirname(marker(target, stage.name)), exist_ok=True)
        shutil.copy(marker(source, stage.name), marker(target, stage.name))
    if before and NAMES.index(before) <= NAMES.index("pretrain"):
        _drop_trained_embedders(target)


@contextlib.contextmanager
def only_one(workdir, wait=False):
    """Holds the run's lock: two pipelines would overwrite each other. A kill releases it.

    wait: whether to wait for another holder, and say so, instead of raising `UserError`.
    """
    os.makedirs(workdir, exist_ok=True)
    with open(os.path.join(workdir, ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not wait:
                message = f"another pipeline is at work in {workdir}: wait for it, or choose another --workdir"
                raise UserError(message) from error
            say(f"waiting for another process that is at work in {workdir}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run_stage(context, stage, command):
    path = marker(context.workdir, stage.name)
    if os.path.exists(path):
        _require_outputs(context, stage)
        say(f"{stage.name}: complete, skipped")
        return
    if stage.name in NEED_QUESTIONS and not context.config.questions:
        say(f"{stage.name}: skipped, the configuration has no questions")
        return
    say(f"{stage.name} ...")
    if stage.name == "report":
        artifacts.write_json(context.path("stages", "command.json"), command)
    # Each stage draws from a fresh generator: what it makes does not depend on which stages this process ran before.
    build.seed_everything(context.config.seed)
    clock_path = _clock_path(context.workdir, stage)
    with stage_clock(clock_path) as seconds:
        result = stage.run(context)
        _require_outputs(context, stage)
        artifacts.write_json(path, {"seconds": seconds(), "result": result})
    os.remove(clock_path)


def _clock_path(workdir, stage):
    return os.path.join(workdir, "stages", f"{stage.name}.unfinished.json")


def _require_outputs(context, stage):
    for output in stage.outputs[:1]:
        if not os.path.exists(context.path(output)):
            raise UserError(
                f"stage {stage.name} is complete, but {context.path(output)} is missing: put it back, or redo with "
                f"--from={stage.name}"
            )


def _redo(workdir, redone):
    # All markers first: a kill in between leaves no stage that is called complete and has lost its output.
    for stage in redone:
        for path in (marker(workdir, stage.name), _clock_path(workdir, stage)):
            if os.path.exists(path):
                os.remove(path)
    for stage in redone:
        for path in (os.path.join(workdir, output) for output in stage.outputs):
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.exists(path):
                os.remove(path)
    if redone[0].name == "pretrain":
        _drop_trained_embedders(workdir)


def _drop_trained_embedders(workdir):
    """Leaves the warm start's embedder: the others are of a pre-training that is made anew."""
    for step, path in artifacts.versions(os.path.join(workdir, "embedder")):
        if step:
            artifacts.remove(path)


def _check_inputs(config):
    """Every file that the run will read exists, and its tagger: said before time is spent."""
    from realm_tf.data.embedded import resolve
    from realm_tf.tagging import choice

    choice.check(config.pretrain.tagger)
    for name in ("input", "pretrain_input"):
        for path in _inputs(getattr(config.corpus, name)):
            if not os.path.exists(path):
                raise UserError(f"corpus.{name}: {path} does not exist")
    for question_set in config.questions:
        for split in ("train", "dev", "test"):
            path = getattr(question_set, split)
            if path and not os.path.exists(resolve(path)):
                raise UserError(f"questions of {question_set.name}: {path} does not exist")
