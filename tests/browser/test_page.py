"""The page of a study in a browser, from a file: what is seen, and what keys and clicks do."""

import itertools
import os
import shutil
from pathlib import Path

import finished
import pytest
import yaml
from conftest import ROOT
from maskalign import report
from maskalign.methods import METHODS
from maskalign.report import rules
from maskalign.study import Study
from playwright.sync_api import expect, sync_playwright

CHROMIUM = shutil.which("chromium")
PHONE, DESKTOP = {"width": 375, "height": 800}, {"width": 1400, "height": 900}
READABLE = 4.5  # contrast of text, WCAG 2 AA
SEEN = 3.0  # contrast of lines

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: chromium is not installed")
CONTRASTS = Path(__file__).with_name("contrasts.js").read_text()
OWN = {"function": "maskalign.controls:shuffled", "title": "own mask", "color": "#c8559a"}
OPEN = "all => all.forEach(d => { d.open = true })"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Return the page of the tiny study, one of whose runs diverged, with Snakemake's own graph.

    It has a control, a method of its own whose name has a dot, and runs of twice the length.
    """
    config = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
    config.setdefault("methods", {})["own.mask"] = OWN
    config["experiments"]["own"] = {
        **{"dataset": "digits", "model": "resnet20", "training": "short", "widths": [1]},
        **{"pairs": 2, "sparsities": [0.8], "rewind_epochs": [1], "lengths": [1, 2]},
        "methods": ["naive", "permuted", "shuffled", "own.mask"],
    }
    study = Study(config)
    folder = tmp_path_factory.mktemp("study")
    finished.write(study, folder, (study.paths("sparse")[0],))
    (folder / "rulegraph.dot").write_text(rules.ask(ROOT / "Snakefile", config))
    (folder / "report.html").write_text(report.build(study, folder, ROOT), encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # as root, chromium asks for it
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def load(browser, file):
    """Return a function that opens the page without a network; it collects what goes wrong."""
    contexts = []

    def opened(viewport=DESKTOP, scheme="light"):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.wrong = []
        page.on(
            "console", lambda m: page.wrong.append(m.text) if m.type in ("error", "warning") else 0
        )
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("requestfailed", lambda request: page.wrong.append(request.url))
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url[:40]))
        page.goto(file.as_uri())
        page.wait_for_selector("#plot-barriers .series path")
        return page

    yield opened
    for context in contexts:
        context.close()


def rows(page, table):
    return page.eval_on_selector_all(
        f"{table} tbody tr",
        "rows => rows.filter(r => !r.hidden).map(r => [...r.cells].map(c => c.innerText.trim()))",
    )


def test_it_opens_from_a_file_without_errors_and_asks_for_nothing_else(load):
    page = load()
    assert not page.wrong
    assert [url for url in page.asked if not url.startswith("data:")] == [page.url[:40]]


def test_every_image_is_decoded(load, file):
    page = load()
    sizes = page.eval_on_selector_all(
        "img",
        "async (all) => {"
        " await Promise.all(all.map(i => i.decode()));"
        " return all.map(i => i.naturalWidth) }",
    )
    assert len(sizes) >= len(list((file.parent / "figures").glob("*.png")))
    assert all(size > 0 for size in sizes)
    assert all(page.eval_on_selector_all("img", "all => all.map(i => i.alt.length > 20)"))


def test_links_inside_the_page_lead_somewhere(load):
    page = load()
    dead = page.evaluate(
        "() => [...document.querySelectorAll('a[href^=\"#\"]')]"
        ".map(a => a.getAttribute('href').slice(1)).filter(id => !document.getElementById(id))"
    )
    assert not dead


@pytest.mark.parametrize("viewport", [PHONE, {"width": 768, "height": 900}, DESKTOP])
def test_nothing_sticks_out_of_the_page(load, viewport):
    page = load(viewport)
    page.eval_on_selector_all("details", OPEN)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_are_readable(load, scheme):
    page = load(scheme=scheme)
    page.eval_on_selector_all("details", OPEN)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 500
    assert not [f for f in found if f[0] < (READABLE if f[1] == "text" else SEEN)]
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_headings_are_in_order(load):
    page = load()
    levels = page.eval_on_selector_all(
        "h1, h2, h3, h4, h5, h6", "all => all.map(h => +h.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_a_table_is_sorted_by_a_click_and_by_a_key(load):
    page = load()
    head = page.locator("#runs th", has_text="Accuracy")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    column = 12
    values = [float(row[column]) for row in rows(page, "#runs")]
    assert values == sorted(values)
    assert len(set(values)) > 1
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(row[column]) for row in rows(page, "#runs")] == sorted(values, reverse=True)
    page.locator("#runs th", has_text="Method").get_by_role("button").click()
    assert page.locator("#runs th[aria-sort]").count() == 1


def test_empty_cells_come_last_either_way(load):
    page = load()
    button = page.locator("#runs th", has_text="S (%)").get_by_role("button")
    for _ in range(2):
        button.click()
        filled = [row[4] != "" for row in rows(page, "#runs")]
        assert filled == sorted(filled, reverse=True)
        assert {True, False} == set(filled)


def test_runs_are_filtered_by_words(load):
    page = load()
    every = rows(page, "#runs")
    page.get_by_label("Filter runs").fill("permuted vgg11")
    found = rows(page, "#runs")
    assert found == [row for row in every if row[0] == "permuted" and row[2] == "vgg11"]
    assert found
    status = page.locator("#runs [role=status]").inner_text()
    assert status == f"{len(found)} of {len(every)} runs"


def test_a_table_leads_to_its_runs_and_a_run_back_to_it(load):
    page = load()
    page.locator("#table_05 a", has_text="listed").click()
    found = rows(page, "#runs")
    assert found
    assert all("T05" in row[-1].split() for row in found)
    page.locator("#runs tbody tr:not([hidden]) a[href='#table_05']").first.click()
    page.wait_for_url("**#table_05")


def test_a_figure_leads_to_its_rule_and_its_script_and_back(load):
    page = load()
    page.locator("#figure_05 a[href='#rule-figure']").click()
    page.wait_for_url("**#rule-figure")
    page.locator("#rule-figure a[href='#script-figure']").click()
    expect(page.locator("#script-figure pre")).to_be_visible()
    page.locator("#rule-figure a[href='#figure_05']").click()
    page.wait_for_url("**#figure_05")


def test_curves_are_filtered_and_named(load):
    page = load()
    plot = page.locator("#plot-training")
    every = plot.locator(".series > *").count()
    plot.get_by_label("Method").select_option("permuted")
    some = plot.locator(".series > *").count()
    assert 0 < some < every
    assert plot.locator(".series > *:not(.look-permuted)").count() == 0
    assert plot.locator("[role=status]").inner_text().startswith(f"{some} of ")
    plot.get_by_role("combobox", name="Line").select_option(index=1)
    assert "permuted" in plot.locator(".readout").inner_text()
    assert plot.locator(".hot").count() == 1
    # A data set without permuted runs of this model takes the other choices back.
    plot.get_by_label("Data set").select_option("files")
    assert plot.locator(".series > *").count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["own.mask", "shuffled"])
def test_a_curve_and_its_key_look_as_their_method(load, name, scheme):
    title = OWN["title"] if name == "own.mask" else METHODS[name].title
    color = OWN["color"] if name == "own.mask" else getattr(METHODS[name].look, scheme)
    page = load(scheme=scheme)
    plot = page.locator("#plot-training")
    plot.get_by_label("Method").select_option(title)
    lines = plot.locator(".series > *")
    assert lines.count() > 0
    key = plot.locator(".legend > span")
    assert key.all_inner_texts() == [title]
    rgb = f"rgb({', '.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))})"
    for found in (lines.first, key.locator("path").first):
        assert found.evaluate("e => getComputedStyle(e).stroke") == rgb
        assert found.evaluate("e => getComputedStyle(e).strokeDasharray") != "none"


def test_a_line_is_named_where_the_pointer_is(load):
    page = load()
    plot = page.locator("#plot-barriers")
    plot.locator("svg[role=img]").scroll_into_view_if_needed()
    box = plot.locator("svg[role=img]").bounding_box()
    for down in range(40, int(box["height"]) - 45, 8):
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + down)
        if plot.locator(".hot").count():
            break
    assert " at 0.5" in plot.locator(".readout").inner_text()


def test_everything_is_reached_by_keys(load):
    page = load()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    expect(page.locator("main#main")).to_be_focused()
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.tagName"))
    assert {"BUTTON", "SUMMARY", "A"} <= seen
    unreachable = page.eval_on_selector_all(
        ".scroll",
        "all => all.filter(s => s.tabIndex !== 0 || !s.getAttribute('aria-label')).length",
    )
    assert unreachable == 0
