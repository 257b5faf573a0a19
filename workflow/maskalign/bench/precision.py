"""Whether bfloat16 costs accuracy: the study of config/precision.yaml, the same pairs in both."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import scipy.stats

NETWORKS = {"resnet20": "ResNet20, 14 x 14 pixels", "vgg11": "VGG5, 14 x 14 pixels"}
RUNS = Path("results/precision/runs.csv")
UNIT = ["mask_seed", "init_seed", "order_seed"]


def run(cores: int) -> pd.DataFrame:
    """Run the study, or go on with it; return its table of runs."""
    snakemake = str(Path(sys.executable).with_name("snakemake"))
    command = [snakemake, str(RUNS), "--configfile", "config/precision.yaml"]
    command += ["--cores", str(cores), "--max-jobs-per-timespan", "1000/10s", "--quiet"]
    subprocess.run(command, check=True)
    return pd.read_csv(RUNS)


def differences(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Compare the test accuracy of both precisions, run by run with the same seeds.

    Yields:
        For each network and method ``network``, ``method``, the accuracies of ``float32`` and
        ``bfloat16`` in percent, and of their differences the ``mean`` and its 95 % t interval
        ``low`` to ``high``.
    """
    wanted = {"split": "test", "metric": "accuracy", "status": "completed"}
    runs = runs[(runs[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    # The rounds of pruning on the way are no results.
    runs = runs[(runs["method"] != "imp") | (runs["sparsity"] == runs["sparsity"].max())]
    for model, network in NETWORKS.items():
        both = {"float32": model, "bfloat16": f"{model}-bfloat16"}
        for method in ("dense", "imp", "lth", "permuted", "naive"):
            found = [
                runs[(runs["model"] == name) & (runs["method"] == method)]
                .set_index(UNIT)["value"]
                .rename(precision)
                for precision, name in both.items()
            ]
            pairs = pd.concat(found, axis=1).dropna()
            gaps = pairs["bfloat16"] - pairs["float32"]
            low, high = scipy.stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
            accuracies = {precision: pairs[precision].tolist() for precision in both}
            row = {"network": network, "method": method, **accuracies}
            yield row | {"mean": gaps.mean(), "low": low, "high": high}
