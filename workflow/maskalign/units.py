"""The results of each independent pair (A, B), and of each mask of an ensemble, for the claims.

A cell is a setting that the study runs for a pair, such as a width, a sparsity and a rewind epoch.
A claim compares pairs only over cells that the study plans for every pair of a data set and model:
else a pair with other cells would differ by its cells.
"""

import copy
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from maskalign import convergence, methods, selection
from maskalign.study import Study

TASK = ["dataset", "model"]
UNIT = [*TASK, "pair"]  # pair p has the seeds 2p and 2p + 1; the mask of A has the seed 2p
CELL = ["width", "sparsity", "rewind_epoch"]
FACTORS = ["length", "rate"]


class Results:
    """The completed runs of a study by pair and cell; NaN for a planned run that is not there.

    Attributes:
        every: test accuracy, percent; index UNIT, CELL and FACTORS, columns the study's methods.
        planned_of_every: whether the study plans the run; as ``every``.
        length: the length of sparse training that is looked at, 1 unless ``at`` changed it.
        accuracy, planned: the same of that length and the recipe's rate; index UNIT and CELL.
        rises: largest rise of the corrected test error above the dense network's on the line from
            it to its last IMP round, that end included, points; index UNIT, width, sparsity.
        ensembles: ``disagreement`` (share of test samples) and ``gain`` (points) of the ensembles
            of one mask, by method; index UNIT and CELL, columns (measure, method).
    """

    def __init__(self, study: Study, runs: pd.DataFrame, curves: pd.DataFrame):
        """Collect the runs of all experiments of ``study`` from runs.csv and connectivity.csv."""
        tasks = dict.fromkeys((e["dataset"], e["model"]) for e in _experiments(study))
        shows = [dict(zip(TASK, task, strict=True)) for task in tasks]
        found = pd.concat([_accuracies(study, s, runs) for s in shows])
        index = [*UNIT, *CELL, *FACTORS]
        table = found.pivot(index=index, columns="method", values=["value", "planned"])
        names = methods.trained(study.methods)
        table = table.reindex(columns=itertools.product(["value", "planned"], names))
        self.every, self.planned_of_every = table["value"].astype(float), table["planned"].eq(True)
        self._look_at(1)
        self._of = study, runs
        self._lines = pd.MultiIndex.from_tuples(_planned_lines(study), names=[*UNIT, "width"])
        self._barriers = pd.concat([_barriers(study, s, runs) for s in shows])
        self.rises = _series([_rise(study, path, curves) for path in study.paths("imp_barrier")])
        self.ensembles = _ensembles(study, runs)

    def at(self, length: float) -> "Results":
        """Return these results with sparse training of another ``length``, at the recipe's rate."""
        found = copy.copy(self)
        found._look_at(length)
        return found

    def _look_at(self, length: float) -> None:
        self.length = length
        self.accuracy = self.of_factors(self.every, length, 1)
        self.planned = self.of_factors(self.planned_of_every, length, 1)

    def lengths(self) -> list[float]:
        """Return the lengths that sparse training is planned for at the recipe's rate."""
        index = self.planned_of_every.index[self.planned_of_every.any(axis=1)].to_frame(index=False)
        return sorted(index.loc[index["rate"] == 1, "length"].unique().tolist())

    @functools.cached_property
    def states(self) -> pd.DataFrame:
        """Return the table of ``convergence.of_study``, without early-matching runs."""
        return convergence.of_study(*self._of, [selection.EVERYTHING])

    @staticmethod
    def of_factors(table: pd.DataFrame, length: float, rate: float) -> pd.DataFrame:
        """Return the rows of a length and rate of ``every``, or of what is planned of it."""
        index = table.index
        at = (index.get_level_values("length") == length) & (index.get_level_values("rate") == rate)
        return table[at].droplevel(FACTORS)

    def difference(self, first: str, second: str, late: bool | None = None) -> pd.Series:
        """Return first - second, points, by pair and shared cell.

        Args:
            first, second: names of methods.
            late: only k > 0 (True), only k = 0 (False), or every rewind epoch k.
        """
        planned = self.planned[first] & self.planned[second]
        values = (self.accuracy[first] - self.accuracy[second])[planned]
        if late is not None:
            values = values[(values.index.get_level_values("rewind_epoch") > 0) == late]
        return shared(values)

    def longest_lengths(self) -> dict[tuple, float]:
        """Return by data set and model the longest length of permuted and naive, if it is not 1."""
        both = self.planned_of_every[["permuted", "naive"]].all(axis=1)
        index = self.every.index[both].to_frame(index=False)
        index = index[(index["length"] > 1) & (index["rewind_epoch"] > 0)]
        longest = index.groupby(TASK)["length"].max()
        return longest.to_dict()

    def longest(self) -> pd.DataFrame:
        """Return permuted and naive at the longest length, each at its best rate; k > 0.

        The best rate of a method in a cell is the one with the highest mean over pairs. Both
        methods have the same choice: the rates that are planned for both and for every pair of the
        cell. A rate at which a pair lost its run is chosen only if that is so at every rate. The
        choice is made from the same runs that are compared.

        Returns:
            Index UNIT and CELL, shared; columns ``permuted``, ``naive`` and ``gap``, points, and
            ``rate_permuted`` and ``rate_naive``.
        """
        columns = ["permuted", "naive", "gap", "rate_permuted", "rate_naive"]
        lengths = self.longest_lengths()
        index = self.every.index.to_frame(index=False)
        own = [lengths.get(task) for task in index[TASK].itertuples(index=False, name=None)]
        late = (index["length"] == pd.Series(own, dtype=float)) & (index["rewind_epoch"] > 0)
        planned = self.planned_of_every[columns[:2]].all(axis=1)
        table = self.every[late.to_numpy() & planned.to_numpy()].droplevel("length")
        table = table[_of_every_pair(table.index)]
        best = [_best(table[m], m) for m in columns[:2]]
        found = pd.concat(best, axis=1, join="inner").reindex(columns=columns)
        found["gap"] = found["permuted"] - found["naive"]
        return shared(found)

    def barriers(self, method: str, corrected: bool) -> pd.Series:
        """Return the test-error barriers from A to B, points, by pair and width.

        Args:
            method: ``permuted`` or ``naive``: whether A is permuted.
            corrected: by batch-norm reset or REPAIR.
        """
        rows = self._barriers
        rows = rows[(rows["method"] == method) & (rows["corrected"] == corrected)]
        return shared(rows.set_index([*UNIT, "width"])["value"].reindex(self._lines))


def _of_every_pair(index: pd.MultiIndex) -> np.ndarray:
    """Return whether every pair that has the cell of a row has its rate too."""
    rows = index.to_frame(index=False)
    pairs = rows.groupby([*TASK, *CELL])["pair"].transform("nunique")
    return (rows.groupby([*TASK, *CELL, "rate"])["pair"].transform("nunique") == pairs).to_numpy()


def _best(values: pd.Series, method: str) -> pd.DataFrame:
    """Return a method's accuracy at the best rate of each cell, and that rate."""
    groups = values.groupby([*TASK, *CELL, "rate"])
    whole, some = groups.mean(skipna=False), groups.mean()
    lost = whole.groupby([*TASK, *CELL]).transform("count") == 0
    # A cell without any run keeps its pairs: they have no number.
    means = whole.where(~lost, some).fillna(-math.inf)
    rates = means.groupby([*TASK, *CELL]).idxmax().map(lambda key: key[-1])
    name = f"rate_{method}"
    rows = values.reset_index("rate").join(rates.rename(name).astype(float))
    return rows.loc[rows["rate"] == rows[name], [method, name]]


def over_widths(values: pd.Series | pd.DataFrame) -> pd.Series | pd.DataFrame:
    """Return the mean over widths of the mean over the other cells, by unit; NaN if one is NaN.

    Widths count alike, also where they have different numbers of cells.
    """
    by_width = values.groupby([*UNIT, "width"]).mean(skipna=False)
    return by_width.groupby(UNIT).mean(skipna=False)


def shared(values: pd.Series | pd.DataFrame) -> pd.Series | pd.DataFrame:
    """Return the values in the cells that every pair of their data set and model has.

    Where no cell is in every pair, all values are returned as NaN: nothing can be compared.

    Args:
        values: index UNIT and the names of a cell.
    """
    index = values.index.to_frame(index=False)
    cell = [name for name in index if name not in UNIT]
    pairs = index.groupby(TASK)["pair"].transform("nunique")
    with_cell = index.groupby([*TASK, *cell])["pair"].transform("nunique")
    common = pairs == with_cell
    nothing = ~common.groupby([index[name] for name in TASK]).transform("any")
    values = values.copy()
    values[nothing.to_numpy()] = math.nan
    return values[(common | nothing).to_numpy()]


def _experiments(study: Study) -> list[dict[str, Any]]:
    return list(study.config["experiments"].values())


def _accuracies(study: Study, s: selection.Selection, runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per planned sparse run of an independent pair, with its accuracy or NaN."""
    planned = selection.planned(study, s)
    planned = planned[planned["method"] != "dense"]
    rows = selection.shown(study, s, runs, "accuracy", selection.EVERYTHING).rows
    rows = rows.loc[rows["status"] == "completed", [*selection.KEYS, "value"]]
    found = planned.merge(rows, how="left", on=selection.KEYS)
    return found.assign(**s, planned=True, pair=found["mask_seed"] // 2)


def _planned_lines(study: Study) -> Iterator[tuple]:
    """Yield UNIT and width of every line from A to B, in order and once."""
    every = {
        (e["dataset"], e["model"], a // 2, width): None
        for e in _experiments(study)
        for width in e.get("interpolation", {}).get("widths", [])
        for a, _ in selection.pairs(e)
    }
    yield from sorted(every)


def _barriers(study: Study, s: selection.Selection, runs: pd.DataFrame) -> pd.DataFrame:
    rows = selection.on_lines(study, s, runs).rows
    rows = rows[rows["metric"].str.startswith("error_barrier") & (rows["split"] == "test")]
    rows = rows[rows["status"] == "completed"]
    corrected = ~rows["metric"].str.endswith("_none")
    return rows.assign(corrected=corrected, pair=rows["mask_seed"] // 2)


def _rise(study: Study, path: str, curves: pd.DataFrame) -> dict[str, Any]:
    """Return UNIT, width, sparsity and the rise on the line to the last round of a run."""
    line = curves[(curves["path"] == path) & (curves["split"] == "test")]
    line = line[line["correction"] != "none"]
    complete = line["sparsity"].nunique() == len(study.run(path)["parents"]["rounds"])
    line = line[line["sparsity"] == line["sparsity"].max()]
    known = complete and (line["status"] == "completed").all()
    errors = line.set_index("alpha")["error"]
    rise = errors[errors.index > 0].max(skipna=False) - errors[0.0] if known else math.nan
    return _names(study, path, "width", "sparsity") | {"value": rise}


def _ensembles(study: Study, runs: pd.DataFrame) -> pd.DataFrame:
    """Return disagreement and gain over the members' mean accuracy of every ensemble."""
    rows = runs[(runs["split"] == "test") & (runs["status"] == "completed")]
    single = rows[rows["metric"] == "accuracy"].set_index("path")["value"]
    measures = ["ensemble_accuracy", "disagreement"]
    whole = rows[rows["metric"].isin(measures)].set_index(["path", "method", "metric"])["value"]
    found = []
    for path in study.paths("diversity"):
        names = _names(study, path, *CELL)
        for method, members in study.run(path)["parents"].items():
            own = whole.reindex([(path, method, m) for m in measures])
            gain = own.iloc[0] - single.reindex(members).mean(skipna=False)
            found.append(names | {"method": method, "disagreement": own.iloc[1], "gain": gain})
    table = pd.DataFrame(found, columns=[*UNIT, *CELL, "method", "disagreement", "gain"])
    return table.pivot(index=[*UNIT, *CELL], columns="method", values=["disagreement", "gain"])


def _names(study: Study, path: str, *cell: str) -> dict[str, Any]:
    run = study.run(path)
    return {k: run[k] for k in [*TASK, *cell]} | {"pair": run["mask_seed"] // 2}


def _series(rows: list[dict[str, Any]]) -> pd.Series:
    names = [*UNIT, "width", "sparsity"]
    return pd.DataFrame(rows, columns=[*names, "value"]).set_index(names)["value"]
