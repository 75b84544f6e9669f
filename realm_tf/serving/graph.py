"""One graph from question strings to answers with their sources: what an export holds."""

import functools

import tensorflow as tf

from realm_tf.models import losses
from realm_tf.models.fused import without_xla
from realm_tf.serving import spans
from realm_tf.serving.block_columns import BlockColumns
from realm_tf.serving.graph_inputs import joint_inputs, question_inputs

QUESTIONS = 64  # questions answered at once: bounds the memory of a call of any batch
ROWS = 32  # inputs read at once, of like lengths, at most
CHUNKS = 5  # that inputs are at least divided into: those of one question are of lengths as different as those of many


class AnswerGraph(tf.Module):
    """Question answering as a TensorFlow graph of stock operations, TensorFlow Text's and the searcher's.

    The same functions as `Answerer`'s, with the corpus in variables. Batches may be of any size, none included.

    Args:
      model: `OpenQA` with a retriever; only its query embedder and its reader are kept.
      tokenizer: `Tokenizer`.
      blocks: `BlockStore`.
      searcher: see `retrieval.graph_search`.
      config: `Config` of the run.
      num_answers: n, the answers given for a question.
    """

    def __init__(self, model, tokenizer, blocks, searcher, config, num_answers):
        super().__init__()
        self._blocks, self._searcher = BlockColumns(blocks), searcher
        # The variables alone: a Keras model would bring its own functions into what is saved.
        self._weights = [v.value for part in (model.retriever.query_embedder, model.reader) for v in part.variables]
        self._embed_queries, self._read = model.retriever.embed_queries, model.reader
        self._tokenizer, self._lengths, self._settings = tokenizer, config.lengths, config.finetune
        self._num_answers = num_answers
        self._num_read = min(config.finetune.reader_beam, len(blocks))

    def save(self, path):
        """Writes the SavedModel with the signatures `serving_default`, `retrieve` and `embed`."""
        signature = [tf.TensorSpec([None], tf.string, name="question")]
        functions = {"serving_default": self.answer, "retrieve": self.retrieve, "embed": self.embed}
        with without_xla():
            signatures = {
                name: tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
                for name, function in functions.items()
            }
            tf.saved_model.save(self, path, signatures=signatures)

    def embed(self, question):
        """question string [B] -> {"embedding": float32 [B, D]}, by the query embedder."""
        return _in_chunks(
            lambda start, end: {"embedding": self._embed(question[start:end])[0]}, tf.shape(question)[0], QUESTIONS
        )

    def retrieve(self, question):
        """question string [B] -> the blocks that are read, [B, K], best first, with their texts.

        `retrieved_block_id`, `retrieved_title`, `retrieved_block_text`, `retrieved_url`: strings;
        `retrieved_probability`: float32, p(z|x) among these K. Copies of one text take one place; where there are fewer
        than K texts, the last places are empty strings of probability 0.
        """
        names = ("block_id", "title", "block_text", "url")

        def chunk(start, end):
            queries_BD, _, _ = self._embed(question[start:end])
            return self._retrieved(*self._search(queries_BD), names)

        return _in_chunks(chunk, tf.shape(question)[0], QUESTIONS)

    def answer(self, question):
        """question string [B] -> n answers, [B, n], best first, and the blocks read, [B, K].

        `answer`, the characters [`start`, `end`) (int32) of `block_text`, from block `block_id` of the document
        `title` at `url`, with `probability` float32 p(y|x). Where there are fewer than n answers, the rest are empty
        strings of probability 0. `retrieved_block_id`, `retrieved_title`, `retrieved_probability`: as in `retrieve`.
        """
        return _in_chunks(
            lambda start, end: self._answer(question[start:end]), tf.shape(question)[0], QUESTIONS
        )

    # === Retrieve ===

    def _embed(self, question_B):
        ids_BQ, lengths_B = question_inputs(question_B, self._tokenizer, self._lengths.question)
        queries_BD = self._embed_queries(ids_BQ, training=False)
        return tf.ensure_shape(queries_BD, [None, self._embedding_dim]), ids_BQ, lengths_B

    @functools.cached_property
    def _embedding_dim(self):
        return self._embed_queries(tf.ones([1, 2], tf.int32)).shape[1]

    def _search(self, queries_BD):
        """(rows int64 [B, K], relevance scores float32 [B, K]) of the first blocks of different texts.

        Copies of a text take one place, so that they crowd out no other. Where there are fewer texts, the last places
        hold copies, whose score is `NEGATIVE`.
        """

        def search(wide):
            found = self._searcher.search(queries_BD, wide)
            rows_BT = tf.ensure_shape(found["rows"], [None, None])
            return wide, rows_BT, tf.ensure_shape(found["scores"], [None, None]), self._is_first(rows_BT)

        places, widest = self._num_read, min(self._num_read * spans.COPIES_SEEN, self._blocks.count)

        def lacks_texts(wide, rows_BT, scores_BT, is_first_BT):
            texts_B = tf.reduce_sum(tf.cast(is_first_BT, tf.int32), axis=1)
            return (wide < widest) & tf.reduce_any(texts_B < places)

        some = tf.TensorShape([None, None])
        _, rows_BT, scores_BT, is_first_BT = tf.while_loop(
            lacks_texts,
            lambda wide, *_: search(tf.minimum(2 * wide, widest)),
            search(tf.constant(places)),
            shape_invariants=(tf.TensorShape([]), some, some, some),
        )
        order_BK = tf.argsort(tf.cast(~is_first_BT, tf.int32), axis=1, stable=True)[:, :places]
        rows_BK, scores_BK, is_first_BK = (
            tf.ensure_shape(tf.gather(values, order_BK, batch_dims=1), [None, places])
            for values in (rows_BT, scores_BT, is_first_BT)
        )
        return rows_BK, tf.where(is_first_BK, scores_BK, losses.NEGATIVE)

    def _is_first(self, rows_BT):
        """Which blocks are the first of their text: bool [B, T]."""
        texts_BT = self._blocks.strings("block_text", rows_BT)
        same_BTT = texts_BT[:, :, None] == texts_BT[:, None, :]
        return tf.argmax(same_BTT, axis=2, output_type=tf.int32) == tf.range(tf.shape(rows_BT)[1])

    def _retrieved(self, rows_BK, scores_BK, names):
        is_read_BK = scores_BK > losses.NEGATIVE / 2
        strings = {
            f"retrieved_{name}": tf.where(is_read_BK, self._blocks.strings(name, rows_BK), "") for name in names
        }
        return {**strings, "retrieved_probability": tf.nn.softmax(scores_BK)}

    # === Read ===

    def _answer(self, question_B):
        queries_BD, ids_BQ, lengths_B = self._embed(question_B)
        rows_BK, scores_BK = self._search(queries_BD)
        probabilities_BS, places_BS, firsts_BS, lasts_BS = spans.best_of_questions(
            *self._read_rows(ids_BQ, lengths_B, rows_BK), scores_BK, self._read.max_span_width
        )
        block_rows_BS = tf.gather(rows_BK, places_BS, batch_dims=1)
        # From places in the input that was read to places in the body.
        firsts_BS, lasts_BS = firsts_BS - lengths_B[:, None], lasts_BS - lengths_B[:, None]
        in_body_BS = (firsts_BS >= 0) & (lasts_BS < self._blocks.body_lengths(block_rows_BS))
        starts_BS, ends_BS = self._blocks.characters(
            block_rows_BS, tf.where(in_body_BS, firsts_BS, 0), tf.where(in_body_BS, lasts_BS, 0)
        )
        starts_BS, ends_BS = tf.where(in_body_BS, starts_BS, 0), tf.where(in_body_BS, ends_BS, 0)
        texts_BK = self._blocks.strings("block_text", rows_BK)
        texts_BS, is_part_BS = self._texts(tf.gather(texts_BK, places_BS, batch_dims=1), starts_BS, ends_BS)
        chosen_Bn, probability_Bn = spans.merge(
            texts_BS, probabilities_BS, in_body_BS & ~is_part_BS, self._num_answers, self._settings.add_up_spans
        )
        is_answer_Bn = probability_Bn > 0
        rows_Bn = tf.gather(block_rows_BS, chosen_Bn, batch_dims=1)
        values = {name: self._blocks.strings(name, rows_Bn) for name in ("block_id", "title", "block_text", "url")}
        values |= {
            "answer": tf.gather(texts_BS, chosen_Bn, batch_dims=1),
            "start": tf.gather(starts_BS, chosen_Bn, batch_dims=1),
            "end": tf.gather(ends_BS, chosen_Bn, batch_dims=1),
        }
        values = {name: tf.where(is_answer_Bn, value, tf.zeros([], value.dtype)) for name, value in values.items()}
        return values | {"probability": probability_Bn} | self._retrieved(rows_BK, scores_BK, ("block_id", "title"))

    def _texts(self, block_texts_BS, starts_BS, ends_BS):
        """The texts of spans, and which of them are parts of numbers."""

        def characters(first_BS, count_BS):
            return tf.strings.substr(block_texts_BS, first_BS, count_BS, unit="UTF8_CHAR")

        texts_BS = characters(starts_BS, ends_BS - starts_BS)
        if self._settings.has_answer != "tokens":  # see `Answerer`
            return texts_BS, tf.zeros(tf.shape(texts_BS), tf.bool)
        first_BS = tf.maximum(starts_BS - spans.WINDOW, 0)
        afters_BS = characters(ends_BS, tf.fill(tf.shape(ends_BS), spans.WINDOW))
        return texts_BS, spans.parts_of_numbers(texts_BS, characters(first_BS, starts_BS - first_BS), afters_BS)

    def _read_rows(self, ids_BQ, lengths_B, rows_BK):
        """`spans.best_of_rows` of each question with each of its blocks, [B * K, ...].

        Inputs are read sorted by length, so that hardly any padding is.
        """
        rows_R = tf.reshape(rows_BK, [-1])
        question_R = tf.repeat(tf.range(tf.shape(rows_BK)[0]), self._num_read)
        lengths_R = tf.gather(lengths_B, question_R)
        bodies_R = tf.minimum(self._blocks.body_lengths(rows_R), self._lengths.reader - 1 - lengths_R)
        order_R = tf.argsort(lengths_R + bodies_R, stable=True)

        def chunk(start, end):
            chosen = order_R[start:end]
            ids_RJ, segments_RJ = joint_inputs(
                tf.gather(ids_BQ, tf.gather(question_R, chosen)),
                tf.gather(lengths_R, chosen),
                self._blocks,
                tf.gather(rows_R, chosen),
                tf.gather(bodies_R, chosen),
                self._tokenizer.sep_id,
                self._lengths.reader,
            )
            allowed = self._whole_words(ids_RJ, segments_RJ, tf.gather(rows_R, chosen), tf.gather(bodies_R, chosen))
            logits, positions, log_sums = spans.best_of_rows(self._read(ids_RJ, segments_RJ, training=False), allowed)
            return {"logits": logits, "positions": positions, "log_sums": log_sums}

        count = tf.size(rows_R)
        found = _in_chunks(chunk, count, tf.clip_by_value(count // CHUNKS, 1, ROWS))
        back_R = tf.math.invert_permutation(order_R)
        return tuple(tf.gather(found[name], back_R) for name in ("logits", "positions", "log_sums"))

    def _whole_words(self, ids_RJ, segments_RJ, rows_R, bodies_R):
        if self._settings.has_answer != "tokens":  # see `Answerer`
            return None
        following_R, width = self._blocks.following(rows_R, bodies_R), self._read.max_span_width
        return spans.whole_words(ids_RJ, segments_RJ, following_R, self._tokenizer.is_continuation, width)


def _in_chunks(function, count, size):
    """What `function(start, end)`, a dict of tensors [end - start, ...], gives for all of `count`, `size` at a time.

    One after the other, so that the memory of a call does not grow with its batch. count, size: ints or int32 scalars.
    """
    spec = tf.TensorSpec([], tf.int32)
    chunk = tf.function(function, input_signature=[spec, spec], autograph=False).get_concrete_function()
    like = chunk.structured_outputs
    arrays = {
        name: tf.TensorArray(
            value.dtype, size=0, dynamic_size=True, infer_shape=False, element_shape=[None, *value.shape[1:]]
        )
        for name, value in like.items()
    }

    def body(number, arrays):
        values = chunk(number * size, tf.minimum((number + 1) * size, count))
        return number + 1, {name: array.write(number, values[name]) for name, array in arrays.items()}

    _, arrays = tf.while_loop(
        lambda number, _: number * size < count, body, (tf.constant(0), arrays), parallel_iterations=1
    )
    return {name: tf.ensure_shape(arrays[name].concat(), [None, *value.shape[1:]]) for name, value in like.items()}
