"""SavedModels with an export's signatures, of a few lines, for the tests of the server."""

import dataclasses
import shutil

import tensorflow as tf

ENDLESS = 10_000_000  # steps that take far longer than any time limit


@dataclasses.dataclass(frozen=True)
class Traits:
    """What a made-up version does otherwise than it should, and how long it takes."""

    probability: float = 0.5  # of the second answer; the first has a quarter
    shift: int = 0  # of the answers' offsets
    steps: int = 1  # products of [B, 512] and [512, 512] that a call computes


class Answers(tf.Module):
    """Answers "Q" with the block "né: version V says Q", of which "version V" and "Q" are the answers.

    The é, one character of two bytes, is there so that offsets in bytes fail. A question with "explode" in it fails;
    one with "slow" takes 2,000 steps more, one with "endless" does not come back.
    """

    def __init__(self, version, traits):
        self._version = tf.Variable(version, dtype=tf.int64)
        self._probability = tf.Variable(traits.probability)
        self._shift = tf.Variable(traits.shift)
        self._steps = tf.Variable(traits.steps)
        self._weights = tf.Variable(tf.eye(512))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "question")])
    def answer(self, question):
        is_sound = tf.logical_not(tf.reduce_any(holds(question, "explode")))
        with tf.control_dependencies([tf.debugging.Assert(is_sound, ["the question exploded"])]):
            question = tf.identity(question)
        said = tf.strings.join(["version ", tf.strings.as_string(self._version)])
        says = tf.broadcast_to(said, tf.shape(question))
        text = tf.strings.join(["né: ", says, " says ", question])
        first = tf.fill(tf.shape(question), 4)  # len("né: ")
        second = 4 + characters(says) + 6  # len(" says ")
        start = tf.stack([first, second], 1) + self._shift
        end = tf.stack([first + characters(says), second + characters(question)], 1) + self._shift
        probabilities = tf.stack([self._quarters(question), tf.fill(tf.shape(question), self._probability)], 1)
        return {
            "answer": tf.stack([says, question], 1),
            "probability": probabilities,
            "block_text": tf.stack([text, text], 1),
            "start": start,
            "end": end,
        }

    def _quarters(self, question):
        """[B] times 0.25, in as many steps as the questions take."""
        steps = self._steps
        for word, more in (("slow", 2000), ("endless", ENDLESS)):
            steps = steps + more * tf.cast(tf.reduce_any(holds(question, word)), tf.int32)
        weights = tf.fill([tf.shape(question)[0], 512], 0.25)
        _, weights = tf.while_loop(lambda i, w: i < steps, lambda i, w: (i + 1, w @ self._weights), (0, weights))
        return weights[:, 0]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "question")])
    def embed(self, question):
        return {"embedding": tf.cast(characters(question), tf.float32)[:, None] * [1.0, 0.2]}


def characters(texts):
    return tf.strings.length(texts, "UTF8_CHAR")


def holds(texts, word):
    return tf.strings.regex_full_match(texts, f"(?s).*{word}.*")


def save(export_dir, version, traits=Traits()):
    """Writes export_dir/<version>, aside and renamed into place as `realm_tf.export` does. Returns its path."""
    model = Answers(version, traits)
    aside = export_dir / f".tmp-{version}"
    tf.saved_model.save(model, str(aside), {"serving_default": model.answer, "embed": model.embed})
    return aside.rename(export_dir / str(version))


def publish(source, export_dir, version):
    """Copies a finished version to export_dir/<version>, which appears at once. Returns its path."""
    aside = shutil.copytree(source, export_dir / f".tmp-{version}")
    return aside.rename(export_dir / str(version))


def corrupt(path):
    """Breaks the weights of a version: half of their file is missing."""
    data = next((path / "variables").glob("variables.data-*"))
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    return path
