"""Compiled training equals plain training; on a CPU torch compiles it with g++."""

import dataclasses
import shutil

import pytest
import torch
from maskalign import training
from maskalign.training import train
from test_training import MASK, PLAN, Blobs, finished, net, same
from torch._dynamo.utils import counters


@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles with g++, not found here")
@pytest.mark.parametrize("graph", [False, True])
def test_compiled_runs_equal_plain_ones_but_for_rounding(tmp_path, monkeypatch, graph):
    torch.compiler.reset()  # or what an earlier test compiled is used again
    counters.clear()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    plain, history = finished(tmp_path, mask=MASK)
    plan = dataclasses.replace(PLAN, compile=True, graph=graph)
    weights, compiled = finished(tmp_path, "compiled", MASK, plan)
    assert counters["stats"]["unique_graphs"] == 1
    for k in plain:
        assert torch.allclose(weights[k].double(), plain[k].double(), rtol=0, atol=1e-5), k
    assert compiled[-1]["train_loss"] == pytest.approx(history[-1]["train_loss"], abs=1e-5)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(InterruptedError):
        train(net(), Blobs(7), plan, tmp_path / "resumed", "id", MASK)
    model = net()
    assert train(model, Blobs(), plan, tmp_path / "resumed", "id", MASK) == compiled
    assert same(weights, model.state_dict())
