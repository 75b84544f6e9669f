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
            tf1.get_variable(name, initializer=initial, use_resource=False)
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(prefix), write_meta_graph=False)
    if dead:
        write_state(os.path.dirname(prefix), f"{dead}/{os.path.basename(prefix)}")


def write_state(folder, *prefixes):
    """A `checkpoint` file that names these checkpoints, the last as the newest."""
    lines = [f'model_checkpoint_path: "{prefixes[-1]}"', *(f'all_model_checkpoint_paths: "{p}"' for p in prefixes)]
    with open(os.path.join(folder, "checkpoint"), "w") as file:
        file.write("\n".join(lines) + "\n")


def write_hub_module(folder, variables, vocabulary, use_resource=True):
    """A TF1 hub module of {name: array}: two graphs, one without a tag and one tagged "train", and a vocabulary.

    use_resource: TensorFlow Hub made its modules of resource variables; without it they are reference variables.
    """
    with tf.Graph().as_default(), tf1.Session() as session:
        builder = tf1.saved_model.Builder(str(folder))
        made = [
            tf1.get_variable(name, initializer=tf.constant(value), use_resource=use_resource)
            for name, value in variables.items()
        ]
        ids = tf1.placeholder(tf.int32, [None, None], "input_ids")
        total = tf.add_n([tf.reduce_sum(variable) for variable in made]) * tf.cast(ids[:, 0], tf.float32)
        tf1.add_to_collection(tf1.GraphKeys.ASSET_FILEPATHS, tf.constant(str(vocabulary)))
        session.run(tf1.global_variables_initializer())
        info = tf1.saved_model.build_tensor_info
        signature = tf1.saved_model.build_signature_def({"ids": info(ids)}, {"default": info(total)}, "")
        assets = tf1.get_collection(tf1.GraphKeys.ASSET_FILEPATHS)
        builder.add_meta_graph_and_variables(session, [], {"projected": signature}, assets_collection=assets)
        builder.add_meta_graph(["train"], {"projected": signature})
        builder.save()
    with open(os.path.join(folder, "tfhub_module.pb"), "wb") as file:
        file.write(b"\x08\x03")  # ModuleDef.format = FORMAT_V3
