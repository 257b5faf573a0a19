"""Studies of one small network, and runs whose accuracies a test gives one by one."""

import copy
from collections.abc import Callable

import pandas as pd
import synthetic
from conftest import DEMO
from maskalign.study import Study
from maskalign.units import Results

CELL = {
    "dataset": "digits",
    "model": "resnet20",
    "training": "resnet20",
    "widths": [1],
    "pairs": 3,
    "sparsities": [0.9],
    "rewind_epochs": [1],
}


def study(*experiments: dict, **config) -> Study:
    """Return a study of experiments, each CELL with what is given, and no artefacts."""
    own = {f"part-{i}": CELL | more for i, more in enumerate(experiments)}
    made = copy.deepcopy(DEMO) | {"experiments": own}
    return Study(made | {"artefacts": {"tables": {}, "figures": {}}} | config)


def runs(of: Study, accuracy: Callable[[dict], float]) -> pd.DataFrame:
    """Return runs.csv of a study; ``accuracy`` gives that of each sparse run of a pair.

    Args:
        of: the study.
        accuracy: of a row of runs.csv, with its ``pair`` beside.
    """
    made = synthetic.runs(of)
    chosen = (made["metric"] == "accuracy") & made["length"].notna()
    rows = made[chosen].assign(pair=made["mask_seed"] // 2).to_dict("records")
    made.loc[chosen, "value"] = [accuracy(row) for row in rows]
    return made


def results(of: Study, rows: pd.DataFrame) -> Results:
    """Return what the claims are made from."""
    return Results(of, rows, synthetic.curves(of))
