"""The retriever as a notebook calls it: texts in, vectors out."""

import os
import shutil
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from realm_tf import artifacts
from realm_tf.config import MINI, EncoderConfig, LengthConfig
from realm_tf.data.block_pieces import BlockPieces
from realm_tf.data.inputs import query_inputs, round_up
from realm_tf.errors import UserError
from realm_tf.interop import retriever_folder
from realm_tf.models import build, encoder
from realm_tf.models import retriever as retriever_model
from realm_tf.models.fused import without_xla
from realm_tf.presets import is_packaged
from realm_tf.progress import say
from realm_tf.retrieval import embedding
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.training import refresher


class Retriever:
    """Embeds passages and questions, so that the inner product of two vectors is a relevance score.

    Attributes:
      model: the Keras model, `realm_tf.models.retriever.Retriever`, of token ids.
      tokenizer: its `Tokenizer`.
      lengths: `LengthConfig`; of a query `lengths.query` word pieces are read, of a block `lengths.block`.

    Example:
      >>> import realm_tf
      >>> texts = ["Vienna lies on the Danube.", "Marie Curie discovered radium.", "Bees make honey."]
      >>> retriever = realm_tf.Retriever.from_preset("realm_mini")
      >>> index = realm_tf.ExactIndex.build(retriever.embed(texts))
      >>> rows, scores = index.search(retriever.embed_queries(["Who discovered radium?"]), k=2)
      >>> texts[rows[0, 0]]
      'Marie Curie discovered radium.'
    """

    def __init__(self, model: retriever_model.Retriever, tokenizer: Tokenizer, lengths: LengthConfig) -> None:
        self.model, self.tokenizer, self.lengths = model, tokenizer, lengths
        self._embed_fn, self._query_fn = refresher.make_embed_fn(model), refresher.make_query_fn(model)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike) -> "Retriever":
        """The retriever with the weights of a preset, computing in float32.

        Args:
          preset: "realm_mini", which comes with the package; a folder that `save_to_preset` wrote, also as
            "hf:FOLDER"; a run that has trained one, of which the newest is taken, or a published embedder in it.

        Raises: `UserError` if it is none of these, or the folder is damaged or holds no trained projection.

        Example:
          >>> import realm_tf
          >>> realm_tf.Retriever.from_preset("realm_mini").embed(["Bees make honey."]).shape
          (1, 128)
        """
        if is_packaged(preset):
            return cls._from_weights(MINI, encoder.MINI_FOLDER / encoder.RETRIEVER)
        folder = os.path.abspath(os.fspath(preset).removeprefix("hf:"))
        if not os.path.isdir(folder):
            raise UserError(f"{preset} is no preset and no folder: give 'realm_mini', or a folder with a retriever")
        if newest := artifacts.newest(os.path.join(folder, "embedder")):
            return cls._from_embedder(newest[1])
        # What `save_to_preset` or a run published; another project's folder has no manifest.
        manifest = artifacts.checked(folder) if artifacts.is_complete(folder) else {}
        if manifest.get("kind") == "embedder":
            return cls._from_embedder(folder)
        return cls._from_weights(f"hf:{folder}", folder)

    @classmethod
    def _from_weights(cls, init, folder):
        config = EncoderConfig(init=init, dtype="float32", projection_dim=retriever_folder.projection_dim(folder))
        source = encoder.resolve(config, encoder.RETRIEVER)
        tokenizer = build.load_tokenizer(config)
        lengths = LengthConfig()
        longest = min(lengths.block, source.max_sequence_length)
        lengths = LengthConfig(query=min(lengths.query, longest), block=longest)
        return cls(build.build_retriever(config, tokenizer.vocabulary_size), tokenizer, lengths)

    @classmethod
    def _from_embedder(cls, path):
        model = build.load_retriever(path, dtype="float32")
        lengths = LengthConfig(**artifacts.manifest(path)["lengths"])
        return cls(model, build.load_embedder_tokenizer(path), lengths)

    @property
    def embedding_dim(self) -> int:
        """D, the width of the vectors."""
        return self.model.block_embedder.projection_dim

    def embed(self, texts: Sequence[str], titles: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Vectors of passages, float32 [N, D], in their order; texts of like lengths are computed together.

        Args:
          texts: N strings. What is beyond `lengths.block` word pieces is not read, and a warning says so.
          titles: N strings, of the documents that the texts are from; none by default.

        Raises: `UserError` if texts or titles are no lists of strings, or not as many.

        Example:
          >>> import realm_tf
          >>> retriever = realm_tf.Retriever.from_preset("realm_mini")
          >>> retriever.embed(["It was discovered in 1898.", "It has four strings."], titles=["Radium", "Violin"]).shape
          (2, 128)
        """
        texts = _strings(texts, "texts")
        titles = [""] * len(texts) if titles is None else _strings(titles, "titles")
        if len(titles) != len(texts):
            raise UserError(f"there are {len(texts)} texts and {len(titles)} titles: give one title for each text")
        if not texts:
            return np.zeros((0, self.embedding_dim), np.float32)
        longest = self.lengths.block
        blocks = BlockPieces.of_texts(texts, titles, self.tokenizer, longest)
        self._warn_of_cuts(blocks.input_lengths(np.arange(len(texts))), longest, "texts")
        with without_xla():  # a program compiled for each shape costs more than it gives with few texts
            return embedding.embed_blocks(self._embed_fn, blocks, self.tokenizer, longest, title="")

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of questions, float32 [B, D], in their order; texts of like lengths are computed together.

        Args:
          texts: B strings. What is beyond `lengths.query` word pieces is not read, and a warning says so.

        Raises: `UserError` if this is no list of strings.

        Example:
          >>> import realm_tf
          >>> realm_tf.Retriever.from_preset("realm_mini").embed_queries(["radium", "Who makes honey?"]).shape
          (2, 128)
        """
        texts, longest = _strings(texts, "texts"), self.lengths.query
        tokens = self.tokenizer.tokenize(texts)
        self._warn_of_cuts(np.diff(tokens.row_splits) + 2, longest, "queries")
        ids_BQ, lengths_B = query_inputs(tokens, self.tokenizer, longest)
        embeddings_BD = np.zeros((len(texts), self.embedding_dim), np.float32)
        with without_xla():
            for chosen in embedding.length_batches(lengths_B, longest):
                width = round_up(lengths_B[chosen].max(), longest)
                embeddings_BD[chosen] = self._query_fn(ids_BQ[chosen, :width])
        return embeddings_BD

    def save_to_preset(self, folder: str | os.PathLike) -> None:
        """Writes a folder that `from_preset(folder)` and a run's `encoder.init=hf:FOLDER` read.

        It holds config.json, model.safetensors in float32 under Hugging Face's names, vocab.txt, and the manifest of an
        artifact. A run whose `encoder.projection_dim` is not `embedding_dim` takes the encoder alone.

        Args:
          folder: where it appears, whole or not at all.

        Raises: `UserError` if something is there already, or the retriever is not one that such a folder describes: its
          query and block embedder differ, or it was trained with another LayerNorm than the released one.

        Example:
          >>> import realm_tf
          >>> retriever = realm_tf.Retriever.from_preset("realm_mini")
          >>> retriever.save_to_preset("mine")
          >>> again = realm_tf.Retriever.from_preset("mine")
          >>> bool((again.embed(["Bees make honey."]) == retriever.embed(["Bees make honey."])).all())
          True
        """
        folder = os.path.abspath(os.fspath(folder))
        if os.path.lexists(folder):
            raise UserError(f"{folder} exists already: give a new folder")
        retriever_folder.require_writable(self.model)
        facts = {"kind": "retriever_preset", "vocabulary": self.tokenizer.fingerprint}
        with artifacts.publish(folder, **facts) as (tmp, _):
            retriever_folder.write(tmp, self.model)
            shutil.copyfile(self.tokenizer.path, os.path.join(tmp, "vocab.txt"))

    def _warn_of_cuts(self, lengths, longest, what):
        cut = int((lengths > longest).sum())
        if cut:
            say(f"warning: {cut} of {len(lengths)} {what} have over {longest} word pieces: what is beyond is not read")


def _strings(values, name):
    """A list of strings. Raises `UserError` if it is something else; a single string would be read as its letters."""
    strings = None if isinstance(values, str | bytes) else list(values)
    if strings is None or not all(isinstance(value, str) for value in strings):
        raise UserError(f"{name} must be a list of strings, such as ['radium']")
    return strings
