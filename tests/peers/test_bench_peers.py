"""What the benchmarks' peers compute: the restricted head is the same loss as the one that is shipped."""

import json
import os
import pathlib
import subprocess

import pytest

from benchmarks import rows
from benchmarks.paths import step

PEERS = pathlib.Path(rows.__file__).parent / "peers"
COMPARE = """
import sys
sys.path.insert(0, {peers!r})
sys.argv = ["step.py", {folder!r}, '{{"head": "all"}}']
import json, step, torch
torch.manual_seed(0)
side = step.Side()
side._scorer.eval(), side._reader.eval()
batch, found = side._batch, {{}}
scores = torch.randn(batch["block_ids"].shape[:2])
for name, loss_of in (("all", step._at_all), ("masks", step._at_masks)):
    side._reader.zero_grad()
    loss = loss_of(side._reader, batch, scores)
    loss.backward()
    gradient = side._reader.realm.encoder.layer[0].output.dense.weight.grad
    found[name] = [float(loss), float(gradient.norm()), float(gradient[0, 0])]
print(json.dumps(found))
"""


@pytest.mark.peers
def test_the_restricted_head_changes_the_work_alone(tmp_path):
    python = os.environ.get("PEER_PYTHON")
    if not python:
        pytest.skip("transformers 4.57.6 is run by `make test-peers`")
    facts = step.make_inputs(tmp_path, quick=True)
    (tmp_path / rows.FACTS).write_text(json.dumps(facts))
    script = COMPARE.format(peers=str(PEERS), folder=str(tmp_path))
    printed = subprocess.run([python, "-c", script], check=True, capture_output=True, text=True).stdout
    found = json.loads(printed.splitlines()[-1])
    # log(30,522) = 10.3: a reader of random weights knows nothing.
    assert found["all"][0] == pytest.approx(10.3, abs=0.5)
    assert found["masks"] == pytest.approx(found["all"], rel=1e-4)
