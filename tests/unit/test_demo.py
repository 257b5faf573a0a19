"""The demo keeps its floor: what it must run so that every table and figure has content."""

import itertools

import pytest
from maskalign import captions
from maskalign.captions import is_extra
from maskalign.study import Study

PAIRS = [(0, 1), (2, 3)]


@pytest.fixture
def study(demo):
    return Study(demo)


def test_every_table_and_figure_of_the_paper_is_made(study):
    artefacts = study.config["artefacts"]
    assert {f"table_{n:02d}" for n in range(1, 17)} <= set(artefacts["tables"])
    assert {f"figure_{n:02d}" for n in range(1, 13)} <= set(artefacts["figures"])
    extras = {captions.number(n) for part in artefacts.values() for n in part if is_extra(study, n)}
    assert extras == {*map("Table {}".format, (17, 18, 19)), *map("Figure {}".format, (13, 14, 15))}


@pytest.mark.parametrize("table", ["table_05", "table_06", "table_09", "table_11", "table_12"])
def test_accuracy_tables_have_content(study, table):
    """Two sparsities, k = 0 and one more, three methods, two pairs."""
    (selection,) = study.config["artefacts"]["tables"][table]["shows"]
    runs = study.runs[study.runs.path.isin(study.selected(selection, "sparse"))]
    runs = runs[runs.order_seed == 0]
    found = set(
        runs[["sparsity", "rewind_epoch", "method", "mask_seed", "init_seed"]].itertuples(
            index=False, name=None
        )
    )
    epochs, levels = set(runs.rewind_epoch), set(runs.sparsity)
    assert len(levels) >= 2
    assert len(epochs) >= 2
    assert 0 in epochs
    for sparsity, k, (a, b) in itertools.product(levels, epochs, PAIRS):
        for method, init in (("lth", a), ("naive", b), ("permuted", b)):
            assert (sparsity, k, method, a, init) in found


@pytest.mark.parametrize("stand_in", ["mnist", "mnist-pairs"])
def test_each_cifar_stand_in_has_two_widths(study, stand_in):
    dense = study.runs[(study.runs.stage == "dense") & (study.runs.dataset == stand_in)]
    residual = dense[dense.model.str.startswith("resnet20")]
    assert len(set(residual.width)) >= 2


def test_ensembles_have_five_members(study):
    ensembles = study.runs[study.runs.stage == "diversity"]
    assert len(ensembles) == 2
    for parents in ensembles.parents:
        assert {method: len(paths) for method, paths in parents.items()} == dict.fromkeys(
            ["dense", "imp", "lth", "permuted", "naive"], 5
        )


def test_two_early_matching_epochs(study):
    matched = study.runs[(study.runs.stage == "match") & (study.runs.dataset == "mnist")]
    matched = matched[matched.model == "resnet20"]
    assert len(set(matched.matching_epoch) - {8}) >= 2


def test_every_stand_in_says_so(study):
    assert all(d["stands_for"] for d in study.config["datasets"].values())
