"""Files as TensorFlow 1 programs leave them: records, checkpoints, hub modules; by TF1-compatibility savers."""

import os

import tensorflow as tf

tf1 = tf.compat.v1


def write_records(path, strings):
    """A TFRecord file of UTF-8 strings."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for string in strings:
            writer.write(string.encode())


def write_checkpoint(prefix, variables, dead=None):
    """A checkpoint of {name: array} by `tf.compat.v1.train.Saver`, as Estimators write.

    Args:
      prefix: path of the checkpoint; its folder is made.
      variables: {name: array, or a function that makes one in the graph}.
      dead: optional folder that the `checkpoint` file beside it names instead of the real one.
    """
    os.makedirs(os.path.dirname(prefix), exist_ok=True)
    with tf.Graph().as_default(), tf1.Session() as session:
        for name, value in variables.items():
            initial = value() if callable(value) else tf.constant(value)
            session.run(tf1.get_variable(name, initializer=initial, use_resource=False).initializer)
        tf1.train.Saver().save(session, str(prefix), write_meta_graph=False)
    if dead:
        write_state(os.path.dirname(prefix), f"{dead}/{os.path.basename(prefix)}")


def write_state(folder, *prefixes):
    """A `checkpoint` file that names these checkpoints, the last as the newest."""
    lines = [f'model_checkpoint_path: "{prefixes[-1]}"', *(f'all_model_checkpoint_paths: "{p}"' for p in prefixes)]
    with open(os.path.join(folder, "checkpoint"), "w") as file:
        file.write("\n".join(lines) + "\n")
