"""How much memory a pre-training step takes, by arithmetic: what fits a device is known before it is rented.

It counts what TensorFlow holds at the worst moment of a step as this project computes it (`models.transformer`,
`training.optimizer`): it knows nothing of the framework's own memory, of compiled programs and of fragmentation.
docs/where_the_time_goes.md has it beside measured peaks.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes of a pre-training step, by what they are for; `total` is their sum."""

    weights: int
    moments: int
    gradients: int
    activations: int
    head: int

    @property
    def total(self):
        """Bytes of all."""
        return sum(dataclasses.astuple(self))


def step_memory(retriever, reader, vocabulary_size, config):
    """The `StepMemory` of REALM pre-training.

    Args:
      retriever, reader: `models.encoder.EncoderSource` of each tower. vocabulary_size: V.
      config: `Config`: lengths are taken as the longest, every candidate as a block of its own; `micro_batches` and
        `recompute_layers` are heeded. Of the arrays of activations, those of "mixed_bfloat16" have 2 bytes an element.
    """
    settings, encoder, lengths = config.pretrain, config.encoder, config.lengths
    parameters = _encoder_parameters(retriever, vocabulary_size) * (1 if encoder.share_embedders else 2)
    parameters += _encoder_parameters(reader, vocabulary_size)
    parameters += retriever.hidden_dim * encoder.projection_dim + reader.hidden_dim**2 + vocabulary_size
    element = 2 if encoder.dtype == "mixed_bfloat16" else 4
    batch = settings.batch_size // settings.micro_batches
    first = 1 if retriever.pooling == "cls" else None
    asked = None if settings.span_weight else settings.max_masks
    embedded = (  # rows, length, places whose output is read
        (batch, lengths.query, first),
        (batch * settings.num_candidates, lengths.block, first),
    )
    read = (
        (batch * (settings.num_candidates - settings.null_candidate), lengths.joint, asked),
        (batch * settings.null_candidate, lengths.query + 1, settings.max_masks),
    )
    kept = sum(
        activations(inputs, sizes, dropout, element, settings.recompute_layers)
        for inputs, sizes, dropout in (
            (embedded, retriever, encoder.dropout),
            (read, reader, config.reader_encoder.dropout),
        )
    )
    masks = batch * settings.num_candidates * settings.max_masks
    return StepMemory(
        weights=4 * parameters,
        moments=8 * parameters,
        # As they come, and clipped; with micro-batches, their sums too.
        gradients=4 * parameters * (3 if settings.micro_batches > 1 else 2),
        activations=kept,
        head=head(masks, vocabulary_size, element),
    )


def head(masks, vocabulary_size, element):
    """Bytes of the masked-LM head at so many places: logits and probabilities in float32, and the logits' gradient."""
    return masks * vocabulary_size * (8 + element)


def _encoder_parameters(sizes, vocabulary_size):
    width, wide = sizes.hidden_dim, sizes.intermediate_dim
    embeddings = (vocabulary_size + sizes.max_sequence_length + 2 + 2) * width
    layer = 4 * (width * width + width) + 2 * width * wide + wide + width + 4 * width
    return embeddings + sizes.num_layers * layer + width * width + width


def activations(inputs, sizes, dropout, element, recompute):
    """Bytes kept for the gradient at the end of the forward pass, and what the largest layer of each input needs more.

    Retriever and reader go backward side by side: the gradient of the scores does not wait for that of the reader.

    Args:
      inputs: [(rows, pieces of a row, places of a row whose output is read; None for all)].
      sizes: `models.encoder.EncoderSource` of the tower that reads them. dropout: float. element: bytes of a number.
      recompute: whether layers keep their inputs alone.
    """
    kept = passing_by = 0
    for rows, length, places in inputs:
        pieces = rows * length
        kept += 4 * pieces * sizes.hidden_dim  # embedded pieces, float32
        most = 0
        for number in range(sizes.num_layers):
            last = number == sizes.num_layers - 1
            layer, passing = _layer(rows, length, places if last and places else length, sizes, dropout)
            kept += element * (pieces * sizes.hidden_dim if recompute else layer)
            most = max(most, element * (passing + (layer if recompute else 0)))
        passing_by += most
    return kept + passing_by


def _layer(rows, length, places, sizes, dropout):
    """Elements that a layer keeps, and those of the gradients that are gone when it is done."""
    width, wide = sizes.hidden_dim, sizes.intermediate_dim
    scores = rows * sizes.num_heads * places * length
    # Input, key, value of all pieces; of the places that are asked for query, mixed values twice (by heads, by pieces),
    # three sums before a LayerNorm or after it, the feed-forward layer before and after its activation; probabilities
    # before and after dropout.
    kept = rows * (length * 3 * width + places * (6 * width + 2 * wide)) + scores * (2 if dropout else 1)
    return kept, rows * places * wide + 2 * scores
