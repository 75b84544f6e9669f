"""BERT token classification with the shapes of words (REALM section 3.4: a BERT-based tagger finds the names)."""

import keras
from keras import ops

from realm_tf.models import encoder


@keras.saving.register_keras_serializable("realm_tf")
class TokenTagger(keras.Model):
    """Scores of T labels for every piece of `[CLS] sentence [SEP]`.

    An embedding of the shape of each piece's word (capitals, digits, ...) is added to BERT's input embeddings: the
    vocabulary is uncased, and which of the neighbours are capitalised matters as much as the word itself.

    Call: token_ids, shapes int [B, L], zero is padding. Returns float32 logits [B, L, T].
    """

    def __init__(self, backbone, num_shapes, num_labels, dropout=0.1, **kwargs):
        super().__init__(**kwargs)
        # === Layers ===
        self.backbone = backbone
        initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.shape_embedding = keras.layers.Embedding(
            num_shapes, backbone.hidden_dim, embeddings_initializer=initializer, name="shape_embedding"
        )
        self.dropout = keras.layers.Dropout(dropout, dtype="float32")
        self.classifier = keras.layers.Dense(
            num_labels, kernel_initializer=initializer, dtype="float32", name="classifier"
        )
        self.shape_embedding.build()
        self.classifier.build((None, None, backbone.hidden_dim))
        self.built = True

    def head_variables(self):
        """The trainable variables that no checkpoint of an encoder brings."""
        return [*self.shape_embedding.trainable_variables, *self.classifier.trainable_variables]

    def call(self, token_ids, shapes, training=False):
        features_BLH = self.shape_embedding(shapes)
        sequence_BLH = encoder.encode_with_features(self.backbone, token_ids, features_BLH, training)
        return self.classifier(self.dropout(ops.cast(sequence_BLH, "float32"), training=training))


def tagging_loss(logits_BLT, labels_BL):
    """(loss, share of labels that are right): mean of -log p(label) over the pieces that have a label.

    labels_BL: int, -1 where a piece has none.
    """
    labelled_BL = ops.cast(ops.greater_equal(labels_BL, 0), "float32")
    labels_BL = ops.maximum(labels_BL, 0)
    total = ops.maximum(ops.sum(labelled_BL), 1.0)
    loss_BL = keras.losses.sparse_categorical_crossentropy(labels_BL, logits_BLT, from_logits=True)
    right_BL = ops.cast(ops.equal(ops.argmax(logits_BLT, axis=-1), ops.cast(labels_BL, "int64")), "float32")
    return ops.sum(loss_BL * labelled_BL) / total, ops.sum(right_BL * labelled_BL) / total
