"""Figures 14 and 15 draw the runs of every method, and of every length, as they are."""

import math
import warnings

import drawn
import leveled
import pytest
from maskalign import figures
from maskalign.methods import METHODS, trained
from matplotlib.colors import to_hex

EVERY = [{"dataset": "digits", "model": "resnet20"}]
REACH = 4.302653 / math.sqrt(3)  # of the 95 % interval of three pairs, by their deviation


def built(name, kind, accuracy, *experiments, lose=None, shows=EVERY, **config):
    artefacts = {"tables": {}, "figures": {name: {"kind": kind, "shows": shows}}}
    study = leveled.study(*experiments, artefacts=artefacts, **config)
    runs = leveled.runs(study, accuracy)
    if lose:
        runs.loc[lose(runs), ["status", "value"]] = ["diverged", -500.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = figures.build(study, name, figures.Sources(runs))
        assert not drawn.misplaced(made.figure)
    return study, made


def panels(made):
    return [ax for ax in made.figure.axes if ax.get_title()]


def rows(data, **where):
    for name, value in where.items():
        data = data[data[name] == value]
    return data


# -- methods ---------------------------------------------------------------------------------------

MINE = {"mine": {"function": "maskalign.controls:shuffled", "title": "My mask", "color": "#123456"}}
PLACES = {name: i for i, name in enumerate([*trained(METHODS), "mine"])}


def by_method(r):
    """Return a level of its own for each method and cell, pairs apart by their method's place."""
    level = 20 + PLACES[r["method"]] + 10 * r["sparsity"] + 3 * r["rewind_epoch"] + 5 * r["width"]
    return level + (1 + PLACES[r["method"]] / 10) * (r["pair"] - 1) + 999 * (r["length"] != 1)


MANY = {
    "methods": ["mine", *reversed(trained(METHODS))],
    "widths": [1, 4],
    "sparsities": [0.8, 0.9],
    "rewind_epochs": [0, 1],
    "lengths": [1, 2],
}


@pytest.fixture(scope="module")
def of_methods():
    return built("figure_14", "methods", by_method, MANY, methods=MINE)


def test_every_method_has_its_mean_interval_and_pairs(of_methods):
    _, made = of_methods
    sparse = made.data[made.data.method != "dense"]
    assert len(sparse) == len(PLACES) * 2**3
    for row in sparse.itertuples():
        place = PLACES[row.method]
        mean = 20 + place + 10 * row.sparsity + 3 * row.rewind_epoch + 5 * row.width
        reach = (1 + place / 10) * REACH
        assert (row.mean, row.n, row.diverged) == (pytest.approx(mean), 3, 0)
        assert (row.low, row.high) == pytest.approx((mean - reach, mean + reach))
        assert row.runs.count(f"/{row.method}/") == 3


def test_each_width_sparsity_and_epoch_is_a_panel_with_a_row_per_method(of_methods):
    study, made = of_methods
    places = [(w, s, k) for w in (1, 4) for s in (0.8, 0.9) for k in (0, 1)]
    dense = rows(made.data, method="dense").set_index("width")["mean"]
    assert [ax.get_title() for ax in panels(made)] == [
        f"×{w}, S = {100 * s:g} %, k = {k}\ndense: {dense[w]:.1f} %" for w, s, k in places
    ]
    titles = [METHODS[name].title for name in trained(METHODS)] + ["My mask"]
    for ax, (w, s, k) in zip(panels(made), places, strict=True):
        if ax.get_subplotspec().is_first_col():
            assert [t.get_text() for t in ax.get_yticklabels()] == titles
        own = rows(made.data, width=w, sparsity=s, rewind_epoch=k).set_index("method")
        for name, place in PLACES.items():
            lines = [line for line in ax.lines if set(line.get_ydata()) == {place}]
            pairs, interval, mean = (sorted(line.get_xdata()) for line in lines)
            row, off = own.loc[name], 1 + place / 10
            assert pairs == pytest.approx([row["mean"] - off, row["mean"], row["mean"] + off])
            assert interval == [row.low, row.high]
            assert mean == [row["mean"]]
            assert {to_hex(line.get_color()) for line in lines} == {study.methods[name].look.color}
            low, high = ax.get_xlim()
            assert low < pairs[0] < pairs[-1] < high


def test_the_lowest_panel_of_each_column_names_its_axis(of_methods):
    labels = [ax.get_xlabel() for ax in panels(of_methods[1])]
    assert labels == 5 * [""] + 3 * ["Test accuracy (%)"]  # eight panels in three columns


def test_its_caption_describes_the_masks_and_what_is_beyond(of_methods):
    study, made = of_methods
    about = "; ".join(f"{m.title}: {m.about}" for m in study.methods.values() if m.start)
    assert f"Masks: {about}. Convergence of sparse training: " in made.caption
    assert "n = 3 pairs" in made.caption
    assert made.caption.endswith("An extra: the paper has nothing of the kind.")


def test_a_diverged_run_is_no_dot_and_enters_no_mean():
    def lose(runs):
        one = (runs.method == "own") & (runs.mask_seed == 5)  # B's mask
        return (runs.metric == "accuracy") & (one | (runs.sparsity == 0.8))

    cell = {"methods": ["naive", "own"], "sparsities": [0.8, 0.9]}
    _, made = built("figure_14", "methods", by_method, cell, lose=lose)
    (row,) = rows(made.data, method="own", sparsity=0.9).to_dict("records")
    level = 20 + PLACES["own"] + 9 + 3 + 5
    assert (row["n"], row["diverged"]) == (2, 1)
    assert row["mean"] == pytest.approx(level - (1 + PLACES["own"] / 10) / 2)
    every = [x for line in panels(made)[1].lines for x in line.get_xdata()]
    assert min(every) > -500
    (lost,) = rows(made.data, method="naive", sparsity=0.8).to_dict("records")
    assert (lost["n"], lost["diverged"]) == (0, 3)
    assert "7 diverged runs left out" in made.caption


# -- lengths ---------------------------------------------------------------------------------------

LONG = {"methods": ["lth", "naive", "permuted", "shuffled"], "lengths": [1, 2, 4]}
RATES = {"methods": ["naive", "permuted"], "lengths": [4], "rates": [0.5, 2]}
GAINS = {"lth": 8.0, "naive": 2.0, "permuted": 5.0, "shuffled": 1.0}


def by_length(r):
    """Return accuracies whose pairs are 10 points apart; gaps differ between pairs by tenths.

    At length 4, naive is best at half of the rate, and permuted at the recipe's.
    """
    own = GAINS[r["method"]] * (1 + 0.1 * (r["pair"] - 1)) * math.log2(2 * r["length"])
    best = {("naive", 0.5): 3.0, ("naive", 2): 1.0}.get((r["method"], r["rate"]), -1.0)
    return 30 + 10 * r["pair"] + own + best * (r["rate"] != 1) + 50 * (r["sparsity"] == 0.8)


@pytest.fixture(scope="module")
def of_length():
    more = {"sparsities": [0.8, 0.9]}
    once = {"methods": ["erk"], "sparsities": [0.8, 0.9]}  # at one length alone
    return built("figure_15", "length", by_length_or_once, LONG | more, RATES | more, once)


def by_length_or_once(r):
    return 77.0 if r["method"] == "erk" else by_length(r)


def test_every_length_has_its_mean_interval_and_pairs(of_length):
    data = rows(of_length[1].data, kind="accuracy", sparsity=0.9)
    assert set(data.method) == {*LONG["methods"]}
    assert len(data) == 4 * 3 + 2 * 2
    for row in data.itertuples():
        spread = 10 + 0.1 * GAINS[row.method] * math.log2(2 * row.length)
        best = {("naive", 0.5): 3.0, ("naive", 2): 1.0}.get((row.method, row.rate), -1.0)
        mean = 40 + GAINS[row.method] * math.log2(2 * row.length) + best * (row.rate != 1)
        assert (row.mean, row.std) == pytest.approx((mean, spread))
        assert (row.low, row.high) == pytest.approx((mean - spread * REACH, mean + spread * REACH))
        assert row.n == 3


def test_gaps_are_those_of_pairs_at_the_recipes_rate(of_length):
    data = rows(of_length[1].data, kind="gap", sparsity=0.9)
    ends = [("lth", "naive"), ("permuted", "naive"), ("naive", "shuffled")]
    assert {*data.method} == {f"{a} - {b}" for a, b in ends}
    assert len(data) == 3 * 3
    for row in data.itertuples():
        first, second = row.method.split(" - ")
        gap = (GAINS[first] - GAINS[second]) * math.log2(2 * row.length)
        assert row.mean == pytest.approx(gap)
        assert (row.low, row.high) == pytest.approx(
            (gap - 0.1 * gap * REACH, gap + 0.1 * gap * REACH)
        )
        assert (row.rate, row.n) == (1, 3)
        assert row.runs.count("/sparsity-0.9/") == 6


def hollow(ax):
    """Return the hollow marks of a panel: x, y and colour."""
    found = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
    return [(*line.get_xdata(), *line.get_ydata(), to_hex(line.get_mec())) for line in found]


def test_each_sparsity_has_a_panel_of_accuracies_and_one_of_gaps(of_length):
    study, made = of_length
    figure = made.figure
    assert len(figure.axes) == 4
    for i, s in enumerate((0.8, 0.9)):
        left, right = figure.axes[2 * i : 2 * i + 2]
        assert left.get_title() == f"×1, S = {100 * s:g} %, k = 1"
        data = rows(made.data, sparsity=s)
        drawn_lines = {
            to_hex(line.get_color()): [*line.get_ydata()]
            for line in left.lines
            if len(line.get_xdata()) == 3
        }
        for method in LONG["methods"]:
            of = rows(data, kind="accuracy", method=method, rate=1).sort_values("length")
            assert drawn_lines[study.methods[method].look.color] == of["mean"].tolist()
        best = rows(data, kind="accuracy", method="naive", rate=0.5)["mean"].item()
        assert hollow(left) == [(4, best, study.methods["naive"].look.color)]
        gaps = [
            line for line in right.lines if len(line.get_xdata()) == 3 and line.get_ls() != "None"
        ]
        assert sorted(line.get_ydata()[-1] for line in gaps) == sorted(
            rows(data, kind="gap", length=4)["mean"]
        )
        assert len({line.get_xdata()[0] for line in gaps}) == 3  # none covers another
        for ax in (left, right):
            assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "4"]


def legend(made):
    return [t.get_text() for key in made.figure.legends for t in key.get_texts()]


def test_the_legend_names_what_is_drawn(of_length):
    assert legend(of_length[1]) == [
        *("LTH", "naive", "permuted", "shuffled", "at its best rate, if another"),
        *("gap LTH - naive", "gap permuted - naive", "gap naive - shuffled"),
    ]
    text = "Hollow: the best of the rates 0.5, 2 times the recipe's, where it beats the recipe's."
    assert text in of_length[1].caption
    assert of_length[1].caption.endswith("An extra: the paper has nothing of the kind.")


def test_where_the_recipes_rate_is_best_no_mark_is_hollow():
    def accuracy(r):
        return by_length(r) - 40 * (r["rate"] != 1)

    _, made = built("figure_15", "length", accuracy, LONG, RATES)
    assert not hollow(made.figure.axes[0])
    assert legend(made)[:5] == ["LTH", "naive", "permuted", "shuffled", "gap LTH - naive"]


def test_no_mark_is_hollow_where_the_recipes_rate_was_not_run():
    parts = LONG | {"lengths": [1, 2]}, RATES
    _, made = built("figure_15", "length", by_length, *parts)
    assert not any(hollow(ax) for ax in made.figure.axes)


@pytest.mark.parametrize("kind", ["methods", "length"])
def test_a_study_of_which_every_run_diverged_is_drawn(kind):
    _, made = built("figure_14", kind, by_length, LONG, lose=lambda runs: runs["method"] != "dense")
    assert "n = 0 pairs" in made.caption


def test_a_diverged_run_takes_its_pairs_gap_with_it():
    def lose(runs):
        one = (runs.method == "naive") & (runs.mask_seed == 0) & (runs.length == 2)
        every = (runs.method == "lth") & (runs.length == 4)
        return (runs.metric == "accuracy") & (one | every)

    _, made = built("figure_15", "length", by_length, LONG, RATES, lose=lose)
    gaps = rows(made.data, kind="gap").set_index(["method", "length"])
    assert gaps.n["permuted - naive", 2] == gaps.n["naive - shuffled", 2] == 2
    assert gaps["mean"]["permuted - naive", 2] == pytest.approx(3 * 2 * (1 + 0.05))
    assert (gaps.n["lth - naive", 4], gaps.n["permuted - naive", 4]) == (0, 3)
    assert "4 diverged runs left out" in made.caption


def test_without_controls_or_rates_the_figure_has_less():
    _, made = built("figure_15", "length", by_length, {"methods": ["naive"], "lengths": [1, 2]})
    assert legend(made) == ["naive"]
    assert "Hollow" not in made.caption
    assert set(made.data.kind) == {"accuracy"}


@pytest.mark.parametrize(("name", "kind"), [("figure_14", "methods"), ("figure_15", "length")])
def test_nothing_run_is_a_figure_that_says_so(name, kind):
    _, made = built(name, kind, lambda r: 50.0, {}, shows=[EVERY[0] | {"widths": [16]}])
    assert made.data.empty
    assert "was run at this scale" in made.caption
    assert "not run at this scale" in [t.get_text() for t in drawn.texts(made.figure)]


def test_what_is_not_trained_longer_is_no_figure_of_lengths():
    _, made = built("figure_15", "length", lambda r: 50.0, {})
    assert made.data.empty
    assert "was run at this scale" in made.caption


def test_a_single_pair_has_no_interval():
    _, made = built("figure_14", "methods", by_method, {"methods": ["naive", "own"], "pairs": 1})
    assert rows(made.data, method="own")["n"].tolist() == [1]
    assert made.data[made.data.method != "dense"].low.isna().all()
    _, made = built("figure_15", "length", by_length, LONG | {"pairs": 1})
    assert "a single pair (n = 1)" in made.caption
