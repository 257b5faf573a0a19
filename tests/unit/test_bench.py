"""The benchmark measures the work that it names."""

import json
import subprocess
import sys

import pytest
from maskalign.bench import work


@pytest.mark.parametrize(
    ("kind", "more"),
    [("textbook", {"workers": 0}), ("ours", {"precision": "float32"}), ("matching", {})],
)
def test_a_measurement(kind, more):
    job = work.job("ResNet20 x1", **more) | {"images": 256}
    done = subprocess.run(
        [sys.executable, "-m", "maskalign.bench", "--measure", kind, json.dumps(job)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    if kind == "matching":
        assert found["groups"] == 12
        assert found["alike"] > 0.95
        assert 0 < found["assignment"] < found["ours"]
    else:
        assert found > 10


def test_an_unknown_stage_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "maskalign.bench", "guessing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "unknown stage 'guessing', must be one of training, matching" in done.stderr
