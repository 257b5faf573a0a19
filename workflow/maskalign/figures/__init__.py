"""The paper's figures from the results of a study: one module a kind of figure."""

import dataclasses

from maskalign import captions, origin
from maskalign.figures import (
    accuracy,
    imp,
    interpolation,
    length,
    matching,
    methods,
    procedure,
    toy,
)
from maskalign.figures.style import Drawing, Sources, styled, write
from maskalign.study import Study

__all__ = ["Drawing", "Sources", "build", "write"]

KINDS = {
    "toy": toy.draw,
    "procedure": procedure.draw,
    "interpolation": interpolation.draw,
    "imp": imp.draw,
    "matching": matching.draw,
    "methods": methods.draw,
    "length": length.draw,
    "rewind": accuracy.draw,
    "sparsity": accuracy.draw,
}


def build(study: Study, name: str, sources: Sources) -> Drawing:
    """Draw figure ``name`` of a study.

    Args:
        study: the study, whose configuration says what the figure shows.
        name: name of the figure in the study's artefacts.
        sources: results; the kinds ``toy`` and ``procedure`` need none.
    """
    with styled():
        drawing = KINDS[study.config["artefacts"]["figures"][name]["kind"]](study, name, sources)
    if "runs" not in drawing.data:
        return drawing
    given = (sources.runs, sources.curves, sources.planes)
    warning = origin.warning(origin.behind(drawing.data, *(g for g in given if g is not None)))
    return dataclasses.replace(drawing, caption=captions.join(warning, drawing.caption))
