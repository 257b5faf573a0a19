"""Results are those of the committed table, or their stage has a new version."""

import golden
import pytest
import torch
from golden import KINDS, VERSIONS, differences, outdated, problems, read, write
from maskalign.study import PATHS
from maskalign.versions import RESULT_VERSION


def test_the_table_is_of_the_versions_of_the_code():
    lines = outdated(read())
    assert not lines, "\n".join(lines)


USUAL = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_change_only_with_the_version_of_their_stage(tmp_path, kind):
    if kind == "files" and not USUAL:
        pytest.skip("images of files are resized with other roundings without AVX2")
    lines = problems(read(), kind, golden.measure(kind, tmp_path))
    assert not lines, "\n".join(lines)


def test_every_stage_is_in_the_table():
    assert golden.FOLLOWS.keys() == RESULT_VERSION.keys() == PATHS.keys() | {"data"}
    assert read().keys() == {(stage, kind) for stage in golden.FOLLOWS for kind in KINDS}


# -- the table itself, on made-up numbers ----------------------------------------------------------

NUMBERS = {"loss": 2.0, "small": 0.0, "mean.error": 50.0}


@pytest.fixture
def made_up(tmp_path):
    """Return a table in which all stages have the same numbers, and these numbers."""
    numbers = {stage: dict(NUMBERS) for stage in golden.FOLLOWS}
    write(dict.fromkeys(KINDS, numbers), tmp_path / "table.csv")
    return read(tmp_path / "table.csv"), numbers


def test_the_table_is_read_as_it_was_written(made_up):
    table, numbers = made_up
    assert outdated(table) == []
    assert [problems(table, kind, numbers) for kind in KINDS] == [[], [], []]


def test_a_changed_number_names_its_stage_and_what_to_do(made_up):
    table, numbers = made_up
    numbers["match"] = NUMBERS | {"loss": 2.01}
    numbers["interpolation"] = NUMBERS | {"loss": 2.01}  # follows from it
    assert problems(table, "pairs", numbers) == [
        "stage match, data pairs: loss was 2, is 2.01 (1 of 3 numbers changed); if that is meant, "
        "raise RESULT_VERSION['match'] in workflow/maskalign/versions.py, then `make golden`"
    ]


@pytest.mark.parametrize("raised", ["match", "dense"])
def test_numbers_may_change_with_their_version_or_with_that_of_a_stage_before(
    made_up, monkeypatch, raised
):
    table, numbers = made_up
    numbers["match"] = NUMBERS | {"loss": 2.01}
    before = VERSIONS[raised]
    monkeypatch.setitem(VERSIONS, raised, before + 1)
    assert problems(table, "pairs", numbers) == []
    (line,) = [line for line in outdated(table) if "pairs" in line]
    assert line == (
        f"stage {raised}, data pairs: the table has version {before}, the code has {before + 1}; "
        "`make golden` writes the table anew"
    )


def test_the_version_of_a_stage_behind_excuses_nothing(made_up, monkeypatch):
    table, numbers = made_up
    numbers["match"] = NUMBERS | {"loss": 2.01}
    monkeypatch.setitem(VERSIONS, "sparse", VERSIONS["sparse"] + 1)
    assert len(problems(table, "pairs", numbers)) == 1


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (NUMBERS | {"loss": 2.001, "small": 0.00005, "mean.error": 51.5}, []),
        (NUMBERS | {"loss": 2.003}, ["loss was 2, is 2.003"]),
        (NUMBERS | {"small": 0.0003}, ["small was 0, is 0.0003"]),
        (NUMBERS | {"mean.error": 53}, ["mean.error was 50, is 53"]),
        (NUMBERS | {"loss": float("nan")}, ["loss was 2, is nan"]),
        (NUMBERS | {"more": 1}, ["more is new"]),
        ({"loss": 2.0, "small": 0.0}, ["mean.error is gone"]),
    ],
)
def test_rounding_is_no_change(now, words):
    assert differences(NUMBERS, now) == words


@pytest.mark.parametrize("change", ["none", "number", "version"])
def test_make_golden_refuses_changed_numbers_of_the_same_version(
    made_up, tmp_path, monkeypatch, capsys, change
):
    table, numbers = made_up
    written = tmp_path / "table.csv"
    monkeypatch.setattr(golden, "read", lambda: table)
    monkeypatch.setattr(golden, "write", lambda found: write(found, written))
    monkeypatch.setattr(golden, "measure", lambda kind, folder: numbers)
    before = written.read_text()
    if change != "none":
        numbers["dense"] = NUMBERS | {"loss": 3.0}
    if change == "version":
        monkeypatch.setitem(VERSIONS, "dense", 2)
    if change == "number":
        with pytest.raises(SystemExit, match=r"^golden: stage dense, data arrays: loss was"):
            golden.main()
        assert written.read_text() == before
        return
    golden.main()
    assert (written.read_text() == before) == (change == "none")
    assert read(written)["dense", "files"] == (VERSIONS["dense"], numbers["dense"])
    assert "wrote " in capsys.readouterr().out
