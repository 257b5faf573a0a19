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
from maskalign.methods import METHODS
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
FEW_SIZES = [(1, 1, 1, 1), (2, 5, 3, 2), (4, 1, 1, 1)]
STUDIED = ["figure_03", "figure_04", "figure_05", "figure_09", "figure_13"]
PAPER = [name for name, method in METHODS.items() if method.paper]
DRAWN = [*PAPER, "weights"]
APART = 10.0  # CAM02-UCS; a difference of 1 is just seen where both colours touch
SEEN = 3.0  # contrast of lines and marks, WCAG 2
UNLIKE = 3.0  # RMS of 255 levels: of fonts drawn by another build


@pytest.mark.parametrize("name", STUDIED)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_text_is_cut_off_or_covered_at_any_size(name, size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not drawn.misplaced(drawn.drawing(drawn.study(*size), name).figure)


@pytest.mark.parametrize("name", drawn.CONTROLLED)
@pytest.mark.parametrize("size", FEW_SIZES, ids=str)
def test_no_text_of_controls_and_lengths_is_cut_off_or_covered(name, size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not drawn.misplaced(drawn.drawing(drawn.controlled(*size), name).figure)


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


PALETTES = {
    "figures": {k: v.color for k, v in (style.LOOKS | matching.MATCHED).items() if k in DRAWN},
    "light": {name: METHODS[name].look.light for name in PAPER},
    "dark": {name: METHODS[name].look.dark for name in PAPER},
}


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("deficiency", [None, "deuteranomaly", "protanomaly", "tritanomaly"])
def test_methods_are_told_apart_by_colour_alone(palette, deficiency):
    colours = {name: to_rgb(colour) for name, colour in PALETTES[palette].items()}
    assert {*PAPER} <= {*colours}
    if deficiency:
        seen = {"name": "sRGB1+CVD", "cvd_type": deficiency, "severity": 100}
        colours = {k: np.clip(cspace_convert(c, seen, "sRGB1"), 0, 1) for k, c in colours.items()}
    apart = {
        (a, b): deltaE(colours[a], colours[b], input_space="sRGB1")
        for a, b in itertools.combinations(colours, 2)
    }
    assert min(apart.values()) > APART, min(apart, key=apart.get)


def test_methods_differ_in_more_than_colour():
    """By their markers alone, and by their dashes where the paper's are drawn without them."""
    markers = [look.marker for look in style.LOOKS.values()]
    assert len(set(markers)) == len(markers) == len(METHODS)
    looks = [(look.color, look.dash) for look in style.LOOKS.values()]
    assert len(set(looks)) == len(looks)
    assert all(look.marker for name, look in style.LOOKS.items() if name != "dense")
    own = METHODS["own"].look
    assert style.drawn(own)["linestyle"] == (0, own.dash)


def luminance(colour):
    """Return the relative luminance of a colour, WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


def contrast(a, b):
    bright, dim = sorted([luminance(a), luminance(b)], reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def grounds():
    """Return the page's backgrounds: of its light and of its dark scheme."""
    css = (ROOT / "workflow/report/page.css").read_text()
    return dict(zip(("light", "dark"), re.findall(r"--ground: (#\w{6});", css), strict=True))


def test_every_method_is_seen_on_its_ground():
    """In figures, on white, the paper's three masks keep the palette that they had before."""
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#ffffff", "#777777") == pytest.approx(4.48, abs=0.01)
    assert grounds() == {"light": "#ffffff", "dark": "#101318"}
    for scheme, ground in grounds().items():
        seen = {n: contrast(getattr(m.look, scheme), ground) for n, m in METHODS.items()}
        assert min(seen.values()) >= SEEN, min(seen, key=seen.get)
    controls = {n: contrast(m.look.color, "#ffffff") for n, m in METHODS.items() if not m.paper}
    assert min(controls.values()) >= SEEN, min(controls, key=controls.get)


@pytest.mark.parametrize("name", [*drawn.KINDS, *drawn.CONTROLLED])
def test_fixed_data_is_drawn_as_before(name, tmp_path):
    kept = drawn.KEPT / f"{name}.png"
    assert compare_images(str(kept), str(drawn.save(name, tmp_path)), UNLIKE) is None


def test_another_drawing_is_found(tmp_path):
    other = drawn.save("figure_05", tmp_path)
    assert compare_images(str(drawn.KEPT / "figure_09.png"), str(other), UNLIKE)
