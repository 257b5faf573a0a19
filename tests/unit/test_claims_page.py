"""The page of the claims gives every verdict, its reason, and the share of the gap."""

import pytest
import synthetic
from maskalign import claims_page, gap, verdicts
from maskalign.claims import CLAIMS
from maskalign.study import Study
from maskalign.units import Results


@pytest.fixture(scope="module")
def made():
    from conftest import DEMO

    config = DEMO | {"experiments": {"cifar10": DEMO["experiments"]["cifar10"] | {"pairs": 4}}}
    config["artefacts"] = {"tables": {}, "figures": {}}
    study = Study(config)
    sources = synthetic.runs(study), synthetic.curves(study)
    results = Results(study, *sources)
    table, shares = verdicts.judge(study, results), gap.shares(results)
    return table, shares, claims_page.markdown(study, table, shares, gap.left(results), sources)


def rows_of(page, heading):
    """Return the cells of the first table below a heading."""
    lines = page.split(f"{heading}\n", 1)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_every_claim_has_a_line_that_says_where_it_holds(made):
    table, _, page = made
    rows = rows_of(page, "# Claims: study demo, protocol paper")
    assert [row[0] for row in rows] == [claim.text for claim in CLAIMS]
    for row, (_, found) in zip(rows, verdicts.overall(table).iterrows(), strict=True):
        counts = [str(found[f"n_{k}"]) for k in ("not_supported", "undecided", "untested")]
        assert row[1:] == [f"**{found.supported}**", *counts]


def test_every_verdict_has_a_line_with_its_numbers_and_why_it_is_undecided(made):
    table, _, page = made
    rows = rows_of(page, "## By data set and model")
    assert len(rows) == len(table)
    for row, found in zip(rows, table.itertuples(), strict=True):
        assert row[:3] == [found.claim, found.scope, found.verdict]
        assert row[3].startswith(f"{found.effect}: {found.mean:.2f}")
        assert row[4] == claims_page.counted(found.n, found.planned, found.unit)
        assert [row[5], row[7]] == [found.test, found.why]
        assert (row[6] == "") == (found.p != found.p)
    (masks,) = [row for row in rows if row[0] == "permuted_more_diverse"]
    assert masks[7] == "fewer than 3 masks"


def test_the_share_of_the_gap_stands_below(made):
    _, shares, page = made
    (row,) = rows_of(page, "## Share of the gap closed")
    whole = shares.iloc[0]
    assert row == [
        "mnist, resnet20",
        f"{whole.gap:.2f} [{whole.gap_low:.2f}, {whole.gap_high:.2f}]",
        f"{100 * whole.share:.0f} [{100 * whole.low:.0f}, {100 * whole.high:.0f}]",
        "4",
        "",
    ]


def test_units_that_do_not_count_are_named():
    assert claims_page.counted(1, 1, "mask") == "1 mask"
    assert claims_page.counted(4, 4, "pair") == "4 pairs"
    assert claims_page.counted(2, 3, "pair") == "2 of 3 pairs"


def test_numbers_that_are_not_there_are_printed_as_none():
    nan = float("nan")
    assert claims_page.interval(nan, nan, nan) == "none"
    assert claims_page.interval(1.0, nan, nan) == "1.00"
    assert claims_page.interval(1.0, 0.25, 1.75) == "1.00 [0.25, 1.75]"
