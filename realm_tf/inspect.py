"""What a pre-trained run fills a blank with, and what each retrieved document adds (REALM, tables 3 and 4).

  python -m realm_tf.inspect --workdir=runs/demo --text="The ___ is the currency of the United Kingdom"
  python -m realm_tf.inspect --workdir=runs/demo --text="Radium was discovered by ___" --answer="Marie Curie" --json
  python -m realm_tf.inspect --workdir=runs/demo --corpus=runs/news --text="The ___ is the currency of Atlantis"

Shows the best fillers without retrieval (the null document alone), under each retrieved document z with p(z|x) and its
utility log p(y|x,z) - log p(y|x,null), and under the marginal sum_z p(z|x) p(y|x,z). y is the answer; without one it is
the best filler under the marginal. Fillers have as many word pieces as the answer; without one they have one to three,
and are ranked by probability per piece. --knn asks the kNN comparator too (docs/comparators.md).
"""

import json

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError

WORKDIR = flags.define_workdir()
TEXT = absl_flags.DEFINE_string("text", None, "A sentence with one blank: ___ (three underscores) or [MASK].")
ANSWER = absl_flags.DEFINE_string("answer", None, "A filler whose probability under each document is wanted.")
CORPUS = absl_flags.DEFINE_string(
    "corpus", None, "Working directory of another run, whose blocks are searched instead; nothing is trained."
)
NUM_CANDIDATES = absl_flags.DEFINE_integer(
    "num_candidates", None, "Candidates, the null document included (default: as in pre-training).", lower_bound=2
)
KNN = absl_flags.DEFINE_bool("knn", False, "Shows what a memory of masked pieces makes of the reader's fillers, too.")
NUM_FILLERS = absl_flags.DEFINE_integer("num_fillers", 5, "Fillers shown under each document.", lower_bound=1)
JSON = absl_flags.DEFINE_bool("json", False, "Prints one JSON object instead of the table.")


def main(_):
    if TEXT.value is None:
        raise UserError('say what to fill in: --text="Paris is the capital of ___"')
    from realm_tf.data import cloze

    cloze.split_blank(TEXT.value)  # a mistake in the text is told before models are loaded
    from realm_tf.report import inspection
    from realm_tf.serving.inspector import Inspector
    from realm_tf.training.run_context import RunContext

    context = RunContext(WORKDIR.value)
    inspector = Inspector(context, CORPUS.value, KNN.value)
    value = inspector.inspect(TEXT.value, ANSWER.value, NUM_CANDIDATES.value, NUM_FILLERS.value)
    if JSON.value:
        print(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        inspection.print_inspection(value, context.config.pretrain.marginal, context.config.pretrain.null_candidate)


if __name__ == "__main__":
    flags.run(main)
