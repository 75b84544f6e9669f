"""The two embedders, query and block, of which there may be one (REALM section 3.2)."""

import keras

from realm_tf.interop import hugging_face
from realm_tf.models import encoder
from realm_tf.models.embedder import Embedder


@keras.saving.register_keras_serializable("realm_tf")
class Retriever(keras.Model):
    """Query and block embedder; the same object under both names where parameters are shared (the released default).

    `embed_queries(token_ids)` and `embed_blocks(token_ids, segment_ids)` return float32 [B, D].

    Args:
      config: `EncoderConfig`. source: its `EncoderSource`, which says pooling and segments. vocabulary_size: V.
    """

    def __init__(self, config, source, vocabulary_size, **kwargs):
        super().__init__(**kwargs)

        def make(name):
            backbone = encoder.build_backbone(source, vocabulary_size, config.dropout, config.dtype)
            embedder = Embedder(
                backbone,
                config.projection_dim,
                source.pooling,
                config.projection_epsilon,
                config.dropout,
                config.projection_scale,
                name=name,
            )
            if source.load:
                hugging_face.assign_projection(embedder, source.load())
            return embedder

        self.block_embedder = make("block_embedder")
        self.query_embedder = self.block_embedder if config.share_embedders else make("query_embedder")
        if not config.share_embedders:
            # Both towers start alike: a query is embedded where its block is.
            self.query_embedder.set_weights(self.block_embedder.get_weights())
        self.shared, self.segments = config.share_embedders, source.segments
        self.built = True

    def embed_queries(self, token_ids, training=False):
        """[CLS] x [SEP], segment 0: int [B, Q] to float32 [B, D]."""
        return self.query_embedder(token_ids, keras.ops.zeros_like(token_ids), training=training)

    def embed_blocks(self, token_ids, segment_ids, training=False):
        """[CLS] title [SEP] body [SEP], segments 0 and 1: int [B, L] to float32 [B, D]."""
        return self.block_embedder(token_ids, self._block_segments(segment_ids), training=training)

    def pool_blocks(self, token_ids, segment_ids, training=False):
        """What is projected of the same: int [B, L] to float32 [B, H]."""
        return self.block_embedder.pool(token_ids, self._block_segments(segment_ids), training)

    def _block_segments(self, segment_ids):
        """The one place where `encoder.segments` counts: whoever embeds blocks gives both segments."""
        return keras.ops.zeros_like(segment_ids) if self.segments == "single" else segment_ids

    def parts(self):
        """{name: Embedder} of the towers that exist, each under its own name."""
        return {"block_embedder": self.block_embedder} | (
            {} if self.shared else {"query_embedder": self.query_embedder}
        )
