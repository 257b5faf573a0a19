"""The page of a study shows what its files hold, all of it, and nothing else."""

import html
import json
import re
from html.parser import HTMLParser

import finished
import leveled
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from maskalign import captions, claims_page, convergence, gap, report, selection, verdicts
from maskalign.claims_page import TITLES, counted, interval
from maskalign.methods import METHODS
from maskalign.report import artefacts, records, rules, summary
from maskalign.study import Study
from maskalign.versions import RESULT_VERSION
from synthetic import older

pytestmark = pytest.mark.xdist_group("report")  # one process makes the results, once
TITLE = "digits <b>&amp;</b>"


class Page(HTMLParser):
    """What a test asks of a page: ids, links, images, headings, scripts' data."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.images, self.heads, self.tags = [], [], [], [], []
        self.outside = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])
        if tag == "img":
            self.images.append(found)
        if re.fullmatch(r"h[1-6]", tag):
            self.heads.append(int(tag[1]))
        self.outside += [
            v for k, v in attrs if k in ("src", "href") and v.startswith(("http", "//"))
        ]


@pytest.fixture(scope="module")
def study():
    config = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
    config["datasets"]["digits"]["title"] = TITLE
    config["artefacts"]["figures"]["figure_05"]["shows"][0]["widths"] = [1, 4]
    return Study(config)


@pytest.fixture(scope="module")
def lost(study):
    return study.paths("sparse")[0]


@pytest.fixture(scope="module")
def folder(study, lost, tmp_path_factory):
    return finished.write(study, tmp_path_factory.mktemp("finished"), (lost,))


@pytest.fixture(scope="module")
def text(study, folder):
    return report.build(study, folder, ROOT)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def data_of(text, plot):
    found = re.search(rf'id="{plot}".*?<script type="application/json">(.*?)</script>', text, re.S)
    return json.loads(found.group(1))


def test_the_page_is_one_file_and_links_to_what_is_there(page, folder):
    assert not page.outside
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        else:
            assert (folder / link).is_file(), link


def test_every_figure_has_its_image_with_its_caption_and_every_table_its_cells(
    study, folder, page, text
):
    alts = [image["alt"] for image in page.images]
    for name in study.config["artefacts"]["figures"]:
        caption = (folder / f"figures/{name}.md").read_text().strip().replace("**", "")
        assert caption in alts
        assert name in page.ids
    for image in page.images:
        assert image["src"].startswith("data:image/png;base64,")
    for name in study.config["artefacts"]["tables"]:
        assert name in page.ids
    cells = pd.read_csv(folder / "tables/table_05.csv")
    best = cells[cells["method"] == "naive"].iloc[0]
    assert f"<td>{best['mean']:.2f} ± {best['std']:.2f}</td>" in text


def test_text_from_a_study_is_escaped(text):
    assert TITLE not in text
    assert "digits &lt;b&gt;&amp;amp;&lt;/b&gt;" in text


def test_each_verdict_is_shown_with_its_numbers(folder, text):
    table = pd.read_csv(folder / "claims.csv")
    (section,) = re.findall(r'<section id="claims".*?</section>', text, re.S)
    lines = re.findall(r'<tr><th scope="row">.*?</tr>', section, re.S)
    overall = verdicts.overall(table)
    top, rest = lines[: len(overall)], lines[len(overall) :]
    for line, row in zip(top, overall.itertuples(), strict=True):
        assert row.text in html.unescape(line)
        assert f'<span class="verdict {row.held}">{row.supported}</span>' in line
        counts = f'<td class="num">{row.n_not_supported}</td><td class="num">{row.n_undecided}</td>'
        assert counts + f'<td class="num">{row.n_untested}</td>' in line
    assert len(rest) > len(table) > 0  # below stand the shares
    for line, row in zip(rest, table.fillna({"convergence": ""}).itertuples(), strict=False):
        assert f"<td>{row.scope}</td>" in line
        assert f">{row.verdict}</span>" in line
        assert f"{row.mean:.2f}" in line
        assert f'<td class="num">{counted(row.n, row.planned, row.unit)}</td>' in line
        why = row.why if isinstance(row.why, str) else ""
        assert line.endswith(
            f"<td>{why}</td><td>{row.test}</td><td>{row.convergence}</td><td></td></tr>"
        )


def test_each_family_of_claims_has_a_table_and_a_sentence_on_top(folder, text):
    overall = verdicts.overall(pd.read_csv(folder / "claims.csv"))
    lead = re.search(r'class="lead">.*?</p>', text, re.S).group()
    sentences = re.findall(r"(Of .*?could be tested in none\.)", html.unescape(lead), re.S)
    assert [s.split(",")[0] for s in sentences] == [
        "Of the paper's 11 claims",
        "Of 8 claims beyond the paper",
    ]
    for (family, title), sentence in zip(TITLES.items(), sentences, strict=True):
        own = overall[overall.family == family]
        held = [(kind, (own.held == kind).sum()) for kind in verdicts.HELD]
        found = re.findall(r"<strong>(\d+) in (\w+)</strong>", sentence)
        assert found == [(f"{n}", kind) for kind, n in held[:3]]
        assert f"<strong>{held[3][1]}</strong> could be tested in none" in sentence
        part = html.unescape(text).split(f'<h3 id="claims-{family}">')[1].split("</table>")[0]
        assert part.startswith(f"{title}</h3>")
        rows = re.findall(r'<tr><th scope="row">(.*?)<small>', part)
        assert rows == own.text.tolist()


def test_the_share_of_the_gap_is_shown_with_the_claims(study, folder, text):
    table = pd.read_csv(folder / "shares.csv")
    table = table[table.rewind_epoch.isna()]
    cells = summary.shares(study, table, pd.read_csv(folder / "shares_by_length.csv"))
    assert len(cells.rows) == len(table) > 1
    for row, found in zip(cells.rows, table.itertuples(), strict=True):
        assert row[2] == ("all" if pd.isna(found.sparsity) else f"{100 * found.sparsity:g}")
        assert row[3] == "1"
        assert row[4].startswith(f"{found.gap:.2f}")
        assert row[6] == f"{found.n}"
        assert (row[5] == "none") == pd.isna(found.share) == (row[7] != "")
        assert f"<td>1</td><td>{row[4]}</td><td>{row[5]}</td>" in text


def test_a_table_says_why_it_is_not_compared_and_shows_what_the_paper_reports(text):
    (part,) = re.findall(r'<article id="table_05".*?</article>', text, re.S)
    assert "CIFAR-10 is stood in for by" in part
    reported = pd.read_csv(ROOT / "config/reported.csv").query("table == 5").iloc[0]
    assert f"{reported['mean']:.2f} ± {reported['std']:.2f}" in part
    (extra,) = re.findall(r'<article id="table_17".*?</article>', text, re.S)
    assert "The paper has no such table." in extra


def test_numbers_of_the_paper_stand_beside_ours_where_they_are_compared(study, folder):
    paper = report.reported.read(*(ROOT / "config" / name for name in report.REPORTED))
    table = pd.read_csv(folder / "comparison.csv", dtype={"why": str, "notes": str})
    rows = (table["table"] == 5) & (table["sparsity"] == 0.8) & (table["rewind_epoch"] == 0)
    table.loc[rows, "status"] = "compared"
    table.loc[rows, ["mean", "std", "n"]] = 12.34, 0.5, 3
    table.loc[rows, "difference"] = 12.34 - table.loc[rows, "reported_mean"]
    table[["why", "notes"]] = table[["why", "notes"]].fillna("")
    made = {a.name: a for a in artefacts.tables(study, folder, table, paper)}["table_05"]
    assert made.compared
    ((_, cells),) = made.paper
    assert len(cells.rows) == rows.sum() == 3
    ours, theirs = (cells.head.index(name) for name in ("Ours", "Reported"))
    first = table[rows].iloc[0]
    assert cells.rows[0][ours] == "12.34 ± 0.50 (n = 3)"
    assert cells.rows[0][theirs].startswith(f"{first['reported_mean']:.2f}")


def test_a_diverged_run_is_named_and_its_curve_keeps_its_finite_part(study, lost, text):
    data = data_of(text, "plot-training")
    assert len(data["series"]) == len(study.paths(*artefacts.TRAINED))
    (series,) = [s for s in data["series"] if s["path"] == lost]
    assert series["name"].endswith("(diverged)")
    grid, values = series["lines"]["train_loss"]
    assert values == [1.0, 0.5, None, None]
    assert data["grids"][grid] == [1, 2, 3, 4]
    grid, values = series["lines"]["test_accuracy"]
    assert (data["grids"][grid], values) == ([2, 4], [60, 60])
    assert "1 run diverged;" in text
    (gaps,) = re.findall(r'<section id="gaps".*?</section>', text, re.S)
    assert lost in gaps
    assert "Not run at this scale: ×4;" in gaps


def test_a_run_of_an_older_version_is_warned_of_on_top(study, folder):
    assert "Warning" not in report.build(study, folder, ROOT)
    file = folder / "landscapes.csv"
    rows, before = selection.read_rows(file), file.read_bytes()
    older(rows, rows["path"][0]).to_csv(file, index=False)
    page = report.build(study, folder, ROOT)
    file.write_bytes(before)
    warning = page.split('<p class="warning">')[1].split("</p>")[0]
    assert f"landscape 7 (this code makes {RESULT_VERSION['landscape']})" in warning
    assert page.index('class="warning"') < page.index('id="claims"')


def test_each_cell_links_to_the_records_of_its_runs(study, folder):
    page = report.build(study, folder, ROOT)
    part = page.split('<article id="table_05"')[1].split("</article>")[0]
    cells = pd.read_csv(folder / "tables/table_05.csv")
    for cell in cells.itertuples():
        links = [f'<a href="runs/{p}/result.json">{p}</a>' for p in cell.runs.split()]
        row = next(row for row in part.split("</tr>") if all(link in row for link in links))
        assert f"<td>{cell.method}</td>" in row
        assert row.count("<a href=") == len(links)


def test_barrier_curves_are_those_of_the_csv(folder, text):
    points = pd.read_csv(folder / "connectivity.csv")
    data = data_of(text, "plot-barriers")
    assert sum(len(s["lines"]["loss"][1]) for s in data["series"]) == len(points)


def test_every_run_is_a_row_that_names_what_shows_it(study, folder):
    runs = records.read(study, folder)
    made = artefacts.figures(study, folder)
    rows = summary.rows(study, runs, made)
    assert [row["path"] for row in rows] == study.paths(*artefacts.TRAINED)
    (figure,) = [a for a in made if a.name == "figure_05"]
    showing = {row["path"] for row in rows if "F05" in [code for code, *_ in row["shown"]]}
    assert showing == set(figure.runs)
    numbers = pd.read_csv(folder / "runs.csv").query("metric == 'accuracy' and split == 'test'")
    found = sorted(row["accuracy"] for row in rows)
    assert found == pytest.approx(sorted(numbers["value"]))


def test_cost_sums_the_jobs_beside_the_forecast(study, folder):
    runs = records.read(study, folder)
    table = records.cost(runs, pd.read_csv(folder / "forecast.csv")).set_index("stage")
    assert table.loc["all", "jobs"] == len(study.runs)
    assert table.loc["all", "hours"] == pytest.approx(0.01 * len(study.runs))
    assert table.loc["dense", "epochs"] == 2 * len(study.paths("dense"))


def test_a_file_that_is_no_record_is_named(study, folder, tmp_path):
    file = tmp_path / "runs" / study.runs["path"].iloc[0] / "result.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    with pytest.raises(ValueError, match=f"{file}: not a record of a run"):
        records.read(study, tmp_path)


def test_long_curves_are_thinned_and_keep_their_ends():
    grids = records.Grids()
    x = range(1, 1001)
    grid, values = grids.line(x, [1 / v for v in x])
    assert len(values) == records.POINTS
    assert (grids.all[grid][0], grids.all[grid][-1]) == (1, 1000)
    assert (values[0], values[-1]) == (1, 0.001)
    assert grids.line(x, [2.0] * 1000)[0] == grid


def test_a_page_of_two_thousand_long_runs_stays_small():
    grids = records.Grids()
    lines = [grids.line(range(200), [n + 0.123456 * e for e in range(200)]) for n in range(4000)]
    assert len(json.dumps(lines)) + len(json.dumps(grids.all)) < 5e6


def test_every_rule_is_shown_with_its_file_and_script(page, text):
    needs = rules.edges('0[label = "image_folder"];1[label = "dense"]; 0 -> 1\n1 -> 1')
    assert needs == {"image_folder": set(), "dense": {"image_folder"}}
    first, second = rules.read(ROOT, needs)
    assert (first.name, first.file, first.script) == (
        "image_folder",
        "workflow/rules/data.smk",
        "workflow/scripts/data.py",
    )
    lines = (ROOT / first.file).read_text().splitlines()
    assert lines[first.line - 1] == first.text.splitlines()[0]
    assert first.read_by == [second.name]
    with pytest.raises(ValueError, match="no file has rule 'nothing'"):
        rules.read(ROOT, {"nothing": set()})
    for rule in ("dense", "sparse", "figure", "report"):
        assert {f"rule-{rule}", f"script-{rule}"} <= set(page.ids)


def test_the_graph_keeps_only_edges_that_no_other_implies_and_no_boxes_meet():
    needs = {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a", "c"}, "e": {"a"}}
    needs["f"] = {"d", "e"}
    drawing = rules.draw(needs)
    assert len(drawing.paths) == 6
    assert next(name for name, *_ in drawing.boxes) == "a"
    for i, (_, x, y) in enumerate(drawing.boxes):
        assert x - rules.WIDTH / 2 >= 0
        assert x + rules.WIDTH / 2 <= drawing.width
        for _, a, b in drawing.boxes[:i]:
            assert abs(y - b) >= rules.HEIGHT or abs(x - a) >= rules.WIDTH


def test_headings_are_in_order_and_headers_have_a_scope(page):
    assert page.heads[0] == 1
    assert page.heads.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.heads, page.heads[1:], strict=False))
    headers = [attrs for tag, attrs in page.tags if tag == "th"]
    assert headers
    assert all(attrs.get("scope") in ("col", "row") for attrs in headers)


def test_extras_and_gaps_are_read_from_captions():
    caption = (
        "A 0.5 % thing. Not run at this scale: S = 97.5 %, ×8; 2 diverged runs left out. Then."
    )
    assert artefacts.GAPS.findall(caption) == [
        "Not run at this scale: S = 97.5 %, ×8; 2 diverged runs left out."
    ]
    assert artefacts.GAPS.findall("Nothing of X was run at this scale. Table 8.")
    assert not artefacts.GAPS.findall("Mean over runs. Protocol paper.")
    written = captions.exceptions({"widths": [8], "sparsities": [0.975]}, diverged=2)
    assert artefacts.GAPS.findall(f"A thing. {written} Then.") == [written]


# -- with controls, lengths, and a method of the study's own ---------------------------------------

MINE = {"function": "maskalign.controls:shuffled", "color": "#0a0b0c", "dash": "dotted"}
EVERY = [{"dataset": "digits", "model": "resnet20"}]


@pytest.fixture(scope="module")
def controlled(tmp_path_factory):
    """Return a study beyond the paper, its folder and its page."""
    tables = {"table_18": {"kind": "methods", "shows": EVERY}}
    tables["table_19"] = {"kind": "diagnosis", "shows": EVERY}
    more = {"interpolation": {"widths": [1]}, "diagnosis": {"widths": [1]}, "lengths": [1, 2]}
    study = leveled.study(
        {"methods": ["lth", "naive", "permuted", "shuffled", "my.mask"]} | more,
        methods={"my.mask": MINE | {"title": "mine <b>"}},
        artefacts={"tables": tables, "figures": {}},
    )
    folder = finished.write(study, tmp_path_factory.mktemp("controlled"))
    return study, folder, report.build(study, folder, ROOT)


def rules_of(text):
    """Return what the page's style says of each curve, in the light and in the dark scheme."""
    style = text.split("<style>")[1].split("</style>")[0]
    light, dark = style.rsplit("@media (prefers-color-scheme: dark)", 1)
    found = [re.findall(r"\.look-(\S+) \{ (stroke: .*?) \}", part) for part in (light, dark)]
    return [dict(part) for part in found]


def test_curves_look_as_their_methods_do(text, controlled):
    for page, own in ((text, {}), (controlled[2], {r"my\.mask": ("#0a0b0c", "#0a0b0c")})):
        looks = {name: (m.look.light, m.look.dark) for name, m in METHODS.items()} | own
        light, dark = rules_of(page)
        assert {*light} == {*dark} == {*looks}
        for name, (color, dimmed) in looks.items():
            assert light[name].startswith(f"stroke: {color}; fill: {color}; stroke-dasharray: ")
            assert dark[name] == f"stroke: {dimmed}; fill: {dimmed};"
        used = {s["look"].replace(".", r"\.") for s in data_of(page, "plot-training")["series"]}
        assert used <= {*light}
        dashes = {name: rule.split("dasharray: ")[1] for name, rule in light.items()}
        known = {"lth": "none;", "permuted": "none;", "naive": "7 2 2 2;", "dense": "6 3;"}
        assert {name: dashes[name] for name in known} == known
        assert dashes["own"] == "9 3;"
    assert light[r"my\.mask"].endswith("stroke-dasharray: 2 2;")


def test_the_titles_of_all_methods_are_given_to_the_curves(text, controlled):
    for page, own in ((text, {}), (controlled[2], {"my.mask": "mine <b>"})):
        found = re.search(r'<script type="application/json" id="looks">(.*?)</script>', page)
        assert json.loads(found.group(1)) == {n: m.title for n, m in METHODS.items()} | own
        assert "<b>" not in found.group(1)


def test_runs_of_another_length_or_rate_can_be_told_apart(study, text):
    rows = re.search(r"Runs</h2>.*?<thead>(.*?)</thead>", text, re.DOTALL).group(1)
    assert ">L</th>" in rows
    assert ">Rate</th>" in rows
    cells = summary.experiments(study)
    at = {name: i for i, name in enumerate(cells.head)}
    by_name = {row[0]: row for row in cells.rows}
    assert by_name["lengths"][at["L"]] == "2"
    assert by_name["lengths"][at["Rate"]] == "1, 0.5"
    assert by_name["lengths"][at["Methods"]] == "naive"


def test_convergence_stands_on_top_and_beside_each_claim(folder, study, text, controlled):
    for of, place, page in ((study, folder, text), controlled):
        runs = pd.read_csv(place / "runs.csv")
        cells = convergence.of_study(of, runs)
        sentence = convergence.sentence(cells, int(cells.runs.sum()))
        assert sentence.startswith("Convergence of sparse training: ")
        assert summary.converged(of, runs) == sentence
        line = f'<p class="convergence">{html.escape(sentence)} No verdict depends on this.</p>'
        assert line in page
        assert page.index(line) < page.index('id="claims"')
        late = (runs.metric == "loss") & (runs.split == "train")
        runs.loc[late, "value"] = 99.0
        assert f"; {cells.runs.sum():.0f} runs of {cells.runs.sum():.0f} have not started." in (
            summary.converged(of, runs)
        )
    table = pd.read_csv(controlled[1] / "claims.csv").set_index("claim")
    named = r'<tr><th scope="row">permuted beats naive longest</th>.*?</tr>'
    (row,) = re.findall(named, controlled[2], re.S)
    last = table.loc["permuted_beats_naive_longest"]
    assert row.endswith(f"<td>{last.convergence}</td><td>{html.escape(last.beside)}</td></tr>")
    assert "share of the gap at length 1 left (%)" in last.beside


def test_the_share_that_long_training_leaves_is_shown_where_there_is_one(text, controlled):
    assert 'id="lengths"' not in text
    _, folder, page = controlled
    (row,) = pd.read_csv(folder / "lengths.csv").to_dict("records")
    part = page.split('<h3 id="lengths">')[1].split("</table>")[0]
    cells = re.findall(r"<t[dh](?: scope=\"row\")?>(.*?)</t[dh]>", part)
    why = row["why"] if isinstance(row["why"], str) else ""
    assert cells == [
        *("digits 8x8", "ResNet8", "2"),
        interval(row["gap"], row["gap_low"], row["gap_high"]),
        interval(row["gap_longest"]),
        gap.share_text(row["share"], row["low"], row["high"]),
        *("3", why),
    ]


def test_the_claims_at_other_lengths_are_shown_where_there_are_any(text, controlled):
    assert 'id="claims-by-length"' not in text
    _, folder, page = controlled
    table = pd.read_csv(folder / "claims_by_length.csv")
    part = page.split('<h3 id="claims-by-length">')[1].split("</table>")[0]
    assert html.escape(claims_page.LONGER, quote=False) in html.unescape(part)
    rows = re.findall(r"<tr>(<th scope=\"row\">.*?)</tr>", part, re.S)
    assert len(rows) == len(table) > 0
    for row, found in zip(rows, table.itertuples(), strict=True):
        cells = re.findall(r"<t[dh](?: scope=\"row\")?>(.*?)</t[dh]>", row)
        assert cells[0] == found.claim.replace("_", " ")
        assert cells[3:5] == [f"{found.length:g}", found.verdict]
        assert interval(found.mean, found.low, found.high) in cells[5]


def test_a_page_beyond_the_paper_leads_to_all_that_it_names(controlled):
    _, folder, text = controlled
    page = Page(text)
    for link in page.links:
        there = link[1:] in page.ids if link.startswith("#") else (folder / link).is_file()
        assert there, link
    assert len(page.ids) == len(set(page.ids))
    assert all(b - a <= 1 for a, b in zip(page.heads, page.heads[1:], strict=False))
    assert "mine &lt;b&gt;" in text
    assert "mine <b>" not in text
    for name in ("table_18", "table_19", "rule-diagnosis", "script-diagnosis"):
        assert name in page.ids
