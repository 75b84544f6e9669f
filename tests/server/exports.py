"""SavedModels with an export's signatures, of a few lines, for the tests of the server."""

import pathlib
import shutil

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

ENDLESS = 10_000_000  # steps that take far longer than any time limit
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # of a variable's name in a SavedModel


class Answers(tf.Module):
    """Answers "Q" with the block "né: version V says Q", of which "version V" and "Q" are the answers.

    The é, one character of two bytes, is there so that offsets in bytes fail. A question with "explode" in it fails;
    one with "slow" takes 2,000 steps more, one with "endless" does not come back. `publish` changes the variables.
    """

    def __init__(self):
        self.version = tf.Variable(1, dtype=tf.int64)
        self.probability = tf.Variable(0.5)  # of the second answer; the first has a quarter
        self.shift = tf.Variable(0)  # of the answers' offsets, which are right at 0
        self.steps = tf.Variable(1)  # products of [B, 512] and [512, 512] that a call computes
        self.weights = tf.Variable(tf.eye(512))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "question")])
    def answer(self, question):
        is_sound = tf.logical_not(tf.reduce_any(holds(question, "explode")))
        with tf.control_dependencies([tf.debugging.Assert(is_sound, ["the question exploded"])]):
            question = tf.identity(question)
        said = tf.strings.join(["version ", tf.strings.as_string(self.version)])
        says = tf.broadcast_to(said, tf.shape(question))
        text = tf.strings.join(["né: ", says, " says ", question])
        first = tf.fill(tf.shape(question), 4)  # len("né: ")
        second = 4 + characters(says) + 6  # len(" says ")
        return {
            "answer": tf.stack([says, question], 1),
            "probability": tf.stack([self.quarters(question), tf.fill(tf.shape(question), self.probability)], 1),
            "block_text": tf.stack([text, text], 1),
            "start": tf.stack([first, second], 1) + self.shift,
            "end": tf.stack([first + characters(says), second + characters(question)], 1) + self.shift,
        }

    def quarters(self, question):
        """[B] times 0.25, in as many steps as the questions take."""
        steps = tf.identity(self.steps)
        for word, more in (("slow", 2000), ("endless", ENDLESS)):
            steps += more * tf.cast(tf.reduce_any(holds(question, word)), tf.int32)
        state = tf.fill([tf.shape(question)[0], 512], 0.25)
        _, state = tf.while_loop(lambda i, _: i < steps, lambda i, state: (i + 1, state @ self.weights), (0, state))
        return state[:, 0]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "question")])
    def embed(self, question):
        return {"embedding": tf.cast(characters(question), tf.float32)[:, None] * [1.0, 0.2]}


def characters(texts):
    return tf.strings.length(texts, "UTF8_CHAR")


def holds(texts, word):
    return tf.strings.regex_full_match(texts, f"(?s).*{word}.*")


def save(path):
    """Writes version 1. Returns its path."""
    model = Answers()
    tf.saved_model.save(model, str(path), {"serving_default": model.answer, "embed": model.embed})
    return path


def publish(source, export_dir, version, **values):
    """export_dir/<version>, a copy with other values of variables; it appears at once. Returns its path."""
    aside = pathlib.Path(shutil.copytree(source, export_dir / f".tmp-{version}"))
    prefix = str(aside / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    for name, value in {"version": version, **values}.items():
        tensors[name + SUFFIX] = tensors[name + SUFFIX].dtype.type(value)
    shutil.rmtree(aside / "variables")
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=list(tensors), shape_and_slices=[""] * len(tensors), tensors=list(tensors.values())
    )
    return aside.rename(export_dir / str(version))


def corrupt(path):
    """Breaks a version: half of its weights' file is missing."""
    data = next((path / "variables").glob("variables.data-*"))
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    return path


def edit(path, change):
    """Applies `change(MetaGraphDef)` to a version's graph."""
    file = path / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(saved_model.meta_graphs[0])
    file.write_bytes(saved_model.SerializeToString())


def write_warm_up(path, question, signature="serving_default"):
    """Gives a version one warm-up request, as TF Serving's g3doc/saved_model_warmup.md has it."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    log.predict_log.request.inputs["question"].CopyFrom(tf.make_tensor_proto([question]))
    (path / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
