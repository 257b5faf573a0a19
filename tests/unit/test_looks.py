"""What figures look like: at every size, in colours that all can tell apart, and as before."""

import itertools
import re
import warnings

import drawn
import numpy as np
import pytest
from colorspacious import cspace_convert, deltaE
from conftest import ROOT
from maskalign.figures import matching, style
from matplotlib.colors import to_rgb
from matplotlib.testing.compare import compare_images

SIZES = [  # numbers of widths, rewind epochs, sparsities and data sets
    (1, 1, 1, 1),
    (1, 9, 4, 1),
    (2, 5, 3, 2),
    (3, 9, 2, 3),
    (4, 1, 1, 1),
    (4, 9, 4, 3),
]
STUDIED = ["figure_03", "figure_04", "figure_05", "figure_09", "figure_13"]
DRAWN = [*style.LOOKS, "weights"]
APART = 10.0  # CAM02-UCS; a difference of 1 is just seen where both colours touch
UNLIKE = 3.0  # RMS of 255 levels: of fonts drawn by another build


@pytest.mark.parametrize("name", STUDIED)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_text_is_cut_off_or_covered_at_any_size(name, size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not drawn.misplaced(drawn.drawing(drawn.study(*size), name).figure)


@pytest.mark.parametrize("name", ["figure_01", "figure_02", "figure_12"])
def test_no_text_is_cut_off_or_covered(name):
    assert not drawn.misplaced(drawn.drawing(drawn.study(1, 1, 1, 1), name).figure)


def test_a_text_that_is_cut_off_or_covered_is_found():
    figure = drawn.drawing(drawn.study(1, 1, 1, 1), "figure_05").figure
    figure.text(0.5, 0.5, "one")
    figure.text(0.5, 0.5, "two")
    figure.text(0.99, 0.5, "three")
    assert ("one", "covers", "two") in drawn.misplaced(figure)
    assert ("three", "is cut off") in drawn.misplaced(figure)


def hexes(scheme):
    """Return the colours of the methods on the page, in its light or its dark scheme."""
    light, dark = (
        (ROOT / "workflow/report/page.css").read_text().split("prefers-color-scheme: dark")
    )
    found = re.findall(r"--(\w+): (#\w{6});", {"light": light, "dark": dark}[scheme])
    return {name: to_rgb(value) for name, value in found if name in style.LOOKS}


PALETTES = {
    "figures": {k: v.color for k, v in (style.LOOKS | matching.MATCHED).items() if k in DRAWN},
    "light": hexes("light"),
    "dark": hexes("dark"),
}


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("deficiency", [None, "deuteranomaly", "protanomaly", "tritanomaly"])
def test_methods_are_told_apart_by_colour_alone(palette, deficiency):
    colours = PALETTES[palette]
    assert {*style.LOOKS} <= {*colours}
    if deficiency:
        seen = {"name": "sRGB1+CVD", "cvd_type": deficiency, "severity": 100}
        colours = {k: np.clip(cspace_convert(c, seen, "sRGB1"), 0, 1) for k, c in colours.items()}
    apart = {
        (a, b): deltaE(colours[a], colours[b], input_space="sRGB1")
        for a, b in itertools.combinations(colours, 2)
    }
    assert min(apart.values()) > APART, min(apart, key=apart.get)


def test_methods_differ_in_more_than_colour():
    looks = [(look.marker, look.dash) for look in style.LOOKS.values()]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("name", drawn.KINDS)
def test_fixed_data_is_drawn_as_before(name, tmp_path):
    kept = drawn.KEPT / f"{name}.png"
    assert compare_images(str(kept), str(drawn.save(name, tmp_path)), UNLIKE) is None


def test_another_drawing_is_found(tmp_path):
    other = drawn.save("figure_05", tmp_path)
    assert compare_images(str(drawn.KEPT / "figure_09.png"), str(other), UNLIKE)
