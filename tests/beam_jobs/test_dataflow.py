"""The graph of embed_blocks as Dataflow gets it: translated, not run."""

import pathlib
import re

import apache_beam as beam
from apache_beam.ml.inference import base
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners import pipeline_context
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.portability.fn_api_runner import translations
from apache_beam.transforms import environments

from beam_jobs import embed_blocks, sharded

ROOT = pathlib.Path(__file__).parent.parent.parent
IMAGE = "region-docker.pkg.dev/project/repository/embed-blocks:1"
OPTIONS = [
    "--runner=DataflowRunner",
    "--project=project",
    "--region=europe-west4",
    "--temp_location=gs://bucket/tmp",
    f"--sdk_container_image={IMAGE}",
    "--sdk_location=container",
]


def translate():
    """What `DataflowRunner.run_pipeline` makes of the graph before it turns to Google's client library (Beam 2.77)."""
    options = PipelineOptions(OPTIONS)
    pipeline = beam.Pipeline(options=options)
    folder = "gs://bucket/run/index/.shards-step_7-0"
    handler = embed_blocks.BlockModelHandler("gs://bucket/run/blocks", f"{folder}/embedder", folder, "bfloat16")
    inference = base.RunInference(base.KeyedModelHandler(handler))
    items = [(sharded.key_of(start), (start, start + 4)) for start in (0, 4)]
    sharded.add_transforms(pipeline, "embedding blocks", items, inference, folder)
    runner = pipeline.runner
    assert isinstance(runner, DataflowRunner)
    pipeline.visit(runner.combinefn_visitor())
    pipeline.visit(runner.side_input_visitor(deterministic_key_coders=True))
    pipeline.replace_all(DataflowRunner._PTRANSFORM_OVERRIDES)
    runner._adjust_pipeline_for_dataflow_v2(pipeline)
    environment = environments.DockerEnvironment.from_container_image(IMAGE)
    proto = pipeline.to_runner_api(default_environment=environment)
    phases = [translations.pack_combiners, translations.sort_stages]
    return translations.optimize_pipeline(proto, phases=phases, known_runner_urns=frozenset(), partial=True)


def test_the_graph_translates():
    components = translate().components
    leaves = [t for t in components.transforms.values() if not t.subtransforms]
    # What any portable runner knows: no transform that only Python's own runners could expand.
    assert {t.spec.urn for t in leaves} == {
        "beam:transform:impulse:v1",
        "beam:transform:pardo:v1",
        "beam:transform:group_by_key:v1",
    }
    names = [t.unique_name for t in leaves]
    assert any("RunInference" in name for name in names) and "WriteShards" in names
    docker = [e for e in components.environments.values() if e.urn == "beam:env:docker:v1"]
    assert docker and all(IMAGE.encode() in e.payload for e in components.environments.values())
    used = {t.environment_id for t in leaves if t.spec.urn == "beam:transform:pardo:v1"}
    assert {components.environments[name].urn for name in used} == {"beam:env:docker:v1"}


def test_what_the_workers_get_is_small_and_can_be_read_again():
    """Paths and ranges travel, no weights and no embeddings."""
    proto = translate()
    assert proto.ByteSize() < 200_000
    context = pipeline_context.PipelineContext(proto.components)
    (name,) = [k for k, t in proto.components.transforms.items() if t.unique_name.endswith("BeamML_RunInference")]
    handler = context.transforms.get_by_id(name).transform.fn._model_handler
    assert handler._unkeyed._precision == "bfloat16"
    assert handler._unkeyed._blocks == "gs://bucket/run/blocks"


def test_the_container_has_the_beam_that_is_locked():
    version = re.search(r"^apache-beam==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE).group(1)
    text = (ROOT / "beam_jobs" / "Dockerfile").read_text()
    assert f"_sdk:{version}" in text and "/opt/apache/beam/boot" in text
