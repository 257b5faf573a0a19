"""Shared pieces of the tests."""

import copy
import gc
import os
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).parents[1]
DEMO = yaml.safe_load((ROOT / "config/demo.yaml").read_text())

torch.set_num_threads(1)


def pytest_itemcollected(item):
    """Keep the tests of the tiny study in one process, so that it is run once."""
    if "tiny" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.xdist_group("tiny"))


def pytest_collection_finish():
    """Keep all that is imported by now out of garbage collection; statsmodels collects often."""
    gc.freeze()


@pytest.fixture
def demo():
    """Return a copy of the demo's configuration that a test may change."""
    return copy.deepcopy(DEMO)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Return the folder in which the tiny study has been run, by one of the tests' processes."""
    from running import copy_workflow, run_tiny

    if "PYTEST_XDIST_WORKER" in os.environ:  # fails if another process has run it
        (tmp_path_factory.getbasetemp().parent / "tiny-was-run").mkdir()
    return run_tiny(copy_workflow(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """Return all runs of a tiny residual network."""
    from chain import Chain

    return Chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="session")
def plain_chain(tmp_path_factory):
    """Return all runs of a tiny network without batch norm."""
    from chain import Chain

    return Chain(tmp_path_factory.mktemp("plain-chain"), "vgg")
