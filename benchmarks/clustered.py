"""Embeddings and queries of any number with the cluster structure of real ones.

  python -m benchmarks.clustered --workdir=runs/wiki2015      # fits benchmarks/clustered.safetensors anew

Blocks are drawn as they come about: a topic, of fitted centre and frequency; a document around it; its blocks around
that. Both scatters have a full covariance, fitted on all topics and all documents together, times a width of the
topic's own. A query is drawn as a sentence of one of the blocks: a multiple of the block's vector, an offset and a
scatter. Blocks and queries get the length that real ones have. Everything is a function of a seed, a chunk at a time.

The file beside this one was fitted on the 99,164 blocks of the 26,600 articles of wiki2015 after the inverse cloze
task, and on 2,000 sentences drawn from them; docs/index.md compares what searches see of both.
"""

import os

import numpy as np

PARAMETERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clustered.safetensors")
TOPICS = 1024
CHUNK = 1 << 16  # embeddings drawn at once


class Clustered:
    """The fitted generator."""

    def __init__(self, path=PARAMETERS):
        from safetensors.numpy import load_file

        self._p = {name: value.astype(np.float32) for name, value in load_file(path).items()}
        self.dim = self._p["centres"].shape[1]

    def write(self, path, blocks, seed=0):
        """Writes float32 [blocks, D] as a .npy file."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (blocks, self.dim)}
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for number, start in enumerate(range(0, blocks, CHUNK)):
                file.write(self.chunk(number, min(CHUNK, blocks - start), seed).data)

    def chunk(self, number, count, seed=0):
        """The first `count` blocks of chunk `number`: float32 [count, D]."""
        rng = np.random.default_rng([seed, 1, number])
        # Lengths of documents are geometric; more of them than can be needed, then cut.
        lengths = rng.geometric(1 / float(self._p["document_blocks"][0]), CHUNK)
        document_of_block = np.repeat(np.arange(CHUNK), lengths)[:count]
        documents = document_of_block[-1] + 1
        weights = self._p["frequencies"].astype(np.float64)
        topics = rng.choice(len(weights), documents, p=weights / weights.sum())
        places = self._p["centres"][topics]
        places += self._scatter(rng, documents, "document_scatter") * self._p["document_widths"][topics, None]
        widths = self._p["block_widths"][topics[document_of_block], None]
        blocks = places[document_of_block] + self._scatter(rng, count, "block_scatter") * widths
        return self._sized(rng, blocks, "block_norm")

    def queries(self, embeddings_ND, count, seed=0):
        """float32 [count, D]: sentences of random blocks of `embeddings_ND`."""
        rng = np.random.default_rng([seed, 2])
        rows = np.sort(rng.integers(0, len(embeddings_ND), count))
        means = self._p["query_slope"] * np.asarray(embeddings_ND[rows]) + self._p["query_offset"]
        return self._sized(rng, means + self._scatter(rng, count, "query_scatter"), "query_norm")

    def _scatter(self, rng, count, name):
        return rng.standard_normal((count, self.dim), np.float32) @ self._p[name]

    def _sized(self, rng, vectors, name):
        mean, deviation = self._p[name]
        norms = mean + deviation * rng.standard_normal(len(vectors), np.float32)
        return np.ascontiguousarray(vectors * (norms / np.linalg.norm(vectors, axis=1))[:, None], np.float32)


def fit(embeddings_ND, documents_N, queries_BD, rows_B):
    """The parameters of `Clustered`, by name.

    Args:
      embeddings_ND: real block embeddings. documents_N: int, the document of each, ascending.
      queries_BD: embeddings of sentences. rows_B: the blocks that they are from.
    """
    from realm_tf.retrieval.ivf_index import assign, kmeans

    embeddings_ND = np.asarray(embeddings_ND, np.float64)
    _, document_of_block, sizes = np.unique(documents_N, return_inverse=True, return_counts=True)
    places = np.zeros((len(sizes), embeddings_ND.shape[1]))
    np.add.at(places, document_of_block, embeddings_ND)
    places /= sizes[:, None]
    places32 = places.astype(np.float32)
    topic_of_document = assign(places32, kmeans(places32, min(TOPICS, len(places32) // 8), len(places32)))
    topics, topic_of_document, members = np.unique(topic_of_document, return_inverse=True, return_counts=True)
    centres = np.zeros((len(topics), places.shape[1]))
    np.add.at(centres, topic_of_document, places)
    centres /= members[:, None]
    from_documents = embeddings_ND - places[document_of_block]
    from_topics = places - centres[topic_of_document]
    # Sums over the degrees of freedom that means leave.
    block_covariance = from_documents.T @ from_documents / max(len(embeddings_ND) - len(sizes), 1)
    document_covariance = from_topics.T @ from_topics / max(len(places) - len(topics), 1)
    # The mean of a document's blocks scatters by its blocks as well.
    document_covariance -= block_covariance * np.mean(1 / sizes)
    topic_of_block = topic_of_document[document_of_block]
    own_BD = embeddings_ND[rows_B]
    centred = own_BD - own_BD.mean(axis=0), queries_BD - queries_BD.mean(axis=0)
    slope = float((centred[0] * centred[1]).sum() / (centred[0] ** 2).sum())
    offset = queries_BD.mean(axis=0) - slope * own_BD.mean(axis=0)
    residuals = queries_BD - slope * own_BD - offset
    fitted = {
        "centres": centres,
        "frequencies": members / members.sum(),
        "document_blocks": np.array([sizes.mean()]),
        "document_scatter": _root(document_covariance),
        "document_widths": _widths(from_topics, topic_of_document),
        "block_scatter": _root(block_covariance),
        "block_widths": _widths(from_documents, topic_of_block),
        "block_norm": _moments(embeddings_ND),
        "query_slope": np.array([slope]),
        "query_offset": offset,
        "query_scatter": _root(residuals.T @ residuals / len(residuals)),
        "query_norm": _moments(queries_BD),
    }
    # float16 is more precise than the fit.
    return {name: np.ascontiguousarray(value, np.float16) for name, value in fitted.items()}


def _root(covariance):
    """R with R^T R the covariance, without the negative eigenvalues that a difference can have."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))).T


def _widths(residuals, topics):
    """How wide each topic scatters, as a multiple of the whole; a topic counts as if it had 5 more of usual width."""
    squares = (residuals**2).sum(axis=1)
    sums, counts = np.bincount(topics, squares), np.bincount(topics)
    return np.sqrt((sums + 5 * squares.mean()) / (counts + 5) / squares.mean())


def _moments(vectors):
    norms = np.linalg.norm(vectors, axis=1)
    return np.array([norms.mean(), norms.std()])


def main(_):
    from safetensors.numpy import save_file

    from realm_tf.data.blocks import BlockStore
    from realm_tf.models import build
    from realm_tf.retrieval import index
    from realm_tf.training.refresher import embed_sentences, make_query_fn

    path = os.path.join(WORKDIR.value, "index", "step_0")
    embedder, blocks = os.path.join(path, "embedder"), BlockStore(os.path.join(WORKDIR.value, "blocks"))
    query_fn = make_query_fn(build.load_retriever(embedder))
    queries_BD, rows = embed_sentences(query_fn, blocks, embedder, 2000)
    fitted = fit(index.load_embeddings(path), np.asarray(blocks.documents), queries_BD, rows)
    save_file(fitted, PARAMETERS)


if __name__ == "__main__":
    from realm_tf import flags

    WORKDIR = flags.define_workdir()
    flags.run(main)
