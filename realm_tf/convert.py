"""Reads another project's checkpoint into a working directory, or writes a run's weights as a Hugging Face folder.

  python -m realm_tf.convert --from=realm-orqa-nq-openqa --to=runs/nq
  python -m realm_tf.convert --from=runs/nq --export_hf=realm-orqa-nq-openqa-again

--from is a Hugging Face folder of REALM or BERT with safetensors, a TF1 hub module, an Estimator's checkpoint, encoded
blocks, or block records; several go into one --to, one after the other. docs/checkpoints.md has the way to an answer.
"""

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError

FROM = absl_flags.DEFINE_string("from", None, "Folder to read: a checkpoint, or with --export_hf a working directory.")
TO = absl_flags.DEFINE_string("to", None, "Working directory to make, or to add to.")
EXPORT_HF = absl_flags.DEFINE_string("export_hf", None, "Hugging Face folder to write; must not exist.")
VOCABULARY = absl_flags.DEFINE_string("vocabulary", None, "vocab.txt, where the folder that is read has none.")
ARCHITECTURE = absl_flags.DEFINE_string(
    "architecture", None, "What --export_hf writes, where that is open: RealmEmbedder, RealmForOpenQA ..."
)


def main(_):
    if not FROM.value or bool(TO.value) == bool(EXPORT_HF.value):
        raise UserError("say what to read, --from=FOLDER, and either --to=WORKDIR or --export_hf=FOLDER")
    if EXPORT_HF.value:
        from realm_tf.interop.export_hf import export_hf

        architecture, count = export_hf(FROM.value, EXPORT_HF.value, ARCHITECTURE.value)
        print(f"{EXPORT_HF.value}: {architecture}, {count} tensors")
        return
    from realm_tf.interop.convert import convert
    from realm_tf.interop.summary import next_step, summary

    for converted in convert(FROM.value, TO.value, VOCABULARY.value):
        print(summary(converted, TO.value))
    print(next_step(TO.value))


if __name__ == "__main__":
    flags.run(main)
