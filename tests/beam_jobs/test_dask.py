"""embed_blocks on Dask's scheduler and its workers, which are processes of their own."""

import shutil

import numpy as np
import pytest

from beam_jobs import embed_blocks
from realm_tf.retrieval import index

distributed = pytest.importorskip("distributed", reason='Dask is not installed: pip install "realm-tf[dask]"')


def embed(run, workers, output):
    """Embeddings that so many local Dask workers made."""
    cluster = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    try:
        options = ["--runner=DaskRunner", f"--dask_client_address={cluster.scheduler_address}"]
        embed_blocks.run(
            blocks=run / "blocks",
            embedder=run / "embedder" / "step_7",
            output=output,
            kind="exact",
            pipeline_args=options,
        )
    finally:
        cluster.close()
    return index.load_embeddings(output)


@pytest.mark.dask
@pytest.mark.slow
def test_one_worker_and_several_give_the_same(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    one, several = (embed(run, workers, tmp_path / "index" / f"step_{workers}") for workers in (1, 2))
    np.testing.assert_allclose(several, one, atol=1e-3)
    # What this process makes without any runner is what both should be.
    embed_blocks.run(
        blocks=run / "blocks", embedder=run / "embedder" / "step_7", output=tmp_path / "index" / "step_0", kind="exact"
    )
    np.testing.assert_allclose(one, index.load_embeddings(tmp_path / "index" / "step_0"), atol=1e-3)
    queries = np.random.default_rng(0).normal(size=(20, one.shape[1])).astype(np.float32)
    rows = [index.load(str(tmp_path / "index" / f"step_{step}")).search(queries, 5)[0] for step in (1, 2)]
    np.testing.assert_array_equal(*rows)
