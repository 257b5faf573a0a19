"""A table beyond the paper: masks and matchings of each pair, compared without training."""

from typing import Any

import pandas as pd
from scipy import stats

from maskalign import captions, origin, selection
from maskalign.formats import ABSENT, Cell
from maskalign.selection import Selection
from maskalign.study import Study

MEASURES = {  # measure: title, factor in print and digits
    "overlap.naive": ("Overlap with own: naive (%)", 100, 1),
    "overlap.permuted": ("permuted (%)", 100, 1),
    "overlap.shuffled": ("shuffled (%)", 100, 1),
    "expected_overlap.naive": ("predicted by densities (%)", 100, 1),
    "overlap.fan": ("by A's margins (%)", 100, 1),
    "overlap.permuted_fan": ("by permuted margins (%)", 100, 1),
    "assignment_margin": ("Margin of the assignment", 1, 3),
    "first_choices": ("First choices (%)", 100, 1),
    "corrected_barrier": ("Corrected barrier (points)", 1, 2),
    "gap": ("Gap (points)", 1, 2),
}
PLACE = ["dataset", "model", "width", "sparsity"]
PAIR = "pair"
FEWEST = 5  # pairs of which a rank correlation is given


def diagnosis(study: Study, entry: dict[str, Any], runs: pd.DataFrame):
    """Table 19: overlaps with B's own mask, margins, and barrier and gap of each pair."""
    shows = entry["shows"]
    rows = pd.concat([numbers(study, s, runs) for s in shows], ignore_index=True)
    cells = selection.summarise(rows, [*PLACE, PAIR, "measure"])
    rank = {name: i for i, name in enumerate(MEASURES)}
    cells = cells.sort_values("measure", key=lambda c: c.map(rank), kind="stable")
    cells = cells.sort_values([*PLACE, PAIR], kind="stable", ignore_index=True)
    text = [
        f"Masks and matchings of {captions.subject(study, shows)}, by pair. Overlap is the share "
        "of the weights of B's own mask that another mask keeps too: A's mask as it is (naive), "
        "permuted, and shuffled within each layer. Beside it stands the overlap of independent "
        "masks with the same number of weights per layer (predicted by densities), and of random "
        "masks with the margins of A's or of the permuted mask: as many weights per output "
        "channel, input channel and kernel position. The margin of the assignment is the "
        "correlation of a channel of B with the channel of A assigned to it minus the highest one "
        "with another channel, on average; first choices are the channels where it is positive. "
        "The barrier is that of the test error between aligned networks, corrected. The gap is "
        f"permuted - naive at k > 0. {_ranks(study, cells)}",
        captions.conditions(study, shows),
    ]
    return text, cells, _layout(study, cells)


def numbers(study: Study, s: Selection, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of MEASURES of a selection, with columns PLACE, pair, measure and value.

    A number without a sparsity, such as the barrier, is repeated for every sparsity of its pair.
    """
    made = selection.of(study, s, runs)
    made = made[made["path"].isin(study.selected(s, "diagnosis"))]
    made = made.assign(pair=made["mask_seed"] // 2, measure=made["metric"])
    named = made["sparsity"].notna()
    made.loc[named, "measure"] = made["metric"] + "." + made["method"]
    masks = made[named]
    if "sparsities" in s:
        masks = masks[masks["sparsity"].isin(s["sparsities"])]
    places = masks[[*PLACE, PAIR]].drop_duplicates()
    lines = selection.on_lines(study, s, runs).rows
    lines = lines[lines["method"].eq("permuted") & lines["split"].eq("test")]
    lines = lines[lines["metric"].isin(["error_barrier_reset", "error_barrier_repair"])]
    lines = lines.assign(pair=lines["mask_seed"] // 2, measure="corrected_barrier")
    beside = pd.concat([made[~named], lines])
    beside = places.merge(beside.drop(columns="sparsity"), on=[*PLACE[:3], PAIR])
    gaps = places.merge(_gaps(study, s, runs), on=[*PLACE, PAIR])
    names = [*PLACE, PAIR, "measure", "value", "status", "path"]
    found = pd.concat([masks, beside, gaps])[names]
    return found[found["measure"].isin(MEASURES)]


def _gaps(study: Study, s: Selection, runs: pd.DataFrame) -> pd.DataFrame:
    """Return permuted - naive of each pair, the mean over k > 0 where both are there."""
    rows = selection.shown(study, s, runs, "accuracy").rows
    rows = rows[(rows["rewind_epoch"] > 0) & (rows["status"] == "completed")]
    rows = rows.assign(pair=rows["mask_seed"] // 2)
    keys = [*PLACE, PAIR, "rewind_epoch"]
    parts = [rows[rows["method"] == m].set_index(keys) for m in ("permuted", "naive")]
    values = (parts[0]["value"] - parts[1]["value"]).dropna()
    table = values.groupby([*PLACE, PAIR]).mean().rename("value").reset_index()
    both = rows[rows["method"].isin(["permuted", "naive"])]
    paths = both.groupby([*PLACE, PAIR])["path"].agg(origin.joined).reset_index()
    table = table.merge(paths, on=[*PLACE, PAIR])
    return table.assign(measure="gap", status="completed")


def _ranks(study: Study, cells: pd.DataFrame) -> str:
    """Return how barrier and gap go together over the pairs of each place."""
    wide = cells.pivot(index=[*PLACE, PAIR], columns="measure", values="mean")
    wide = wide.reindex(columns=["corrected_barrier", "gap"]).dropna()
    texts = []
    for place, part in wide.groupby(PLACE):
        if len(part) >= FEWEST:
            found = stats.spearmanr(part["corrected_barrier"], part["gap"])
            where = f"{captions.times(place[2])}, S = {captions.percent(place[3])} %"
            texts.append(
                f"{where}: {found.statistic:.2f} (n = {len(part)}, p = {found.pvalue:.2g})"
            )
    if texts:
        return f"Spearman's rank correlation of barrier and gap over pairs is {'; '.join(texts)}."
    return f"A rank correlation of barrier and gap needs {FEWEST} pairs, so none is given."


def _layout(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    if cells.empty:
        return pd.DataFrame()
    rows = []
    for place, part in cells.groupby(PLACE, sort=False):
        dataset, model, width, sparsity = place
        head = {
            "Model": f"{captions.model_title(study, model)} {captions.times(width)} / "
            f"{captions.data_title(study, dataset)}",
            "Sparsity (%)": captions.percent(sparsity),
        }
        for pair, own in part.groupby(PAIR):
            rows.append(head | {"Pair": f"{pair:g}"} | _printed(own.set_index("measure")))
        if part[PAIR].nunique() > 1:
            means = part.groupby("measure").agg(
                std=("mean", "std"), n=("mean", "count"), mean=("mean", "mean")
            )
            rows.append(head | {"Pair": "mean"} | _printed(means))
    table = pd.DataFrame(rows)
    shown = [title for title, _, _ in MEASURES.values() if title in table]
    index = [k for k in ("Model", "Sparsity (%)") if table[k].nunique() > 1]
    table = table.astype(object).where(table.notna(), ABSENT)
    key = [*index, "Pair"]
    return table.set_index(key if len(key) > 1 else key[0])[shown]


def _printed(values: pd.DataFrame) -> dict[str, Any]:
    cells = {}
    for measure, row in values.iterrows():
        title, factor, digits = MEASURES[measure]
        cells[title] = Cell(factor * row["mean"], factor * row["std"], int(row["n"]), digits)
    return cells
