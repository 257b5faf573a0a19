"""The table of mutations fits the package, and its runner tells a survivor from a killed mutant."""

import re
from collections import Counter

import pytest
from mutants import __main__ as mutants
from mutants.__main__ import ERROR, KILLED, SURVIVED, Mutant, Trial

ROWS = mutants.read()


def test_names_and_mutations_are_unique():
    for key in (lambda m: m.name, lambda m: (m.module, m.pattern, m.replacement)):
        assert Counter(map(key, ROWS)).most_common(1)[0][1] == 1


def test_every_row_fits_its_module():
    wrong = []
    for mutant in ROWS:
        try:
            mutants.mutated(mutant, (mutants.SOURCE / f"maskalign/{mutant.module}.py").read_text())
        except (ValueError, FileNotFoundError) as error:
            wrong.append(f"{mutant.module} {mutant.name}: {error}")
    assert not wrong


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ("a / b", "a", "occurs 0 times in share.py, not once"),
        ("a", "b", "occurs 3 times in share.py, not once"),
        ("a + b", "a + b", "the replacement equals the pattern"),
        ("a + b", "a +", "does not compile"),
        ("a + b", "a  +  b", "changes no code"),
    ],
)
def test_a_row_that_does_not_fit_is_an_error(pattern, replacement, message):
    mutant = Mutant("m", "share", pattern, replacement)
    with pytest.raises(ValueError, match=re.escape(message)):
        mutants.mutated(mutant, "def share(a, b):\n    return a + b\n")


def test_the_test_modules_are_those_that_import_the_module_themselves(tmp_path):
    for name, line in {
        "test_a": "from maskalign import graph, share",
        "test_b": "import maskalign.share",
        "test_c": "def late():\n    from maskalign.share import share",
        "test_d": "from maskalign.bench import share",
        "test_e": "from maskalign.shared import share",
        "test_f": "import maskalign\nfrom other import share",
        "helper": "from maskalign import share",
    }.items():
        (tmp_path / f"{name}.py").write_text(line)
    found = [file.stem for file in mutants.importers("share", tmp_path)]
    assert found == ["test_a", "test_b", "test_c"]
    inside = [file.stem for file in mutants.importers("bench/share", tmp_path)]
    assert inside == ["test_d"]


def test_a_package_that_is_imported_counts_for_its_modules(tmp_path):
    (tmp_path / "test_a.py").write_text("from maskalign import figures")
    (tmp_path / "test_b.py").write_text("import maskalign\nfrom maskalign.other import imp")
    assert [file.stem for file in mutants.importers("figures/imp", tmp_path)] == ["test_a"]


@pytest.fixture
def small(tmp_path):
    """Return a trial of a package of two modules; only ``share`` is tested, and not its else."""
    package, unit, folder = tmp_path / "source/maskalign", tmp_path / "unit", tmp_path / "copies"
    for made in (package, unit, folder):
        made.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "share.py").write_text("def share(a, b):\n    return a / b if b else None\n")
    (package / "alone.py").write_text("NUMBER = 1\n")
    test = "from maskalign.share import share\n\ndef test_share():\n    assert share(1, 2) == 0.5\n"
    (unit / "test_share.py").write_text(test)
    return Trial(folder, tmp_path / "source", unit)


def test_survivors_and_errors_fail_and_the_source_is_not_touched(small, capsys):
    rows = [
        Mutant("product", "share", "a / b", "a * b"),
        Mutant("no-else", "share", "else None", "else 0"),
        Mutant("import", "share", "def share", "import nothing\ndef share"),
        Mutant("stale", "share", "a - b", "b - a"),
        Mutant("untested", "alone", "NUMBER = 1", "NUMBER = 2"),
    ]
    before = (small.source / "maskalign/share.py").read_text()
    assert mutants.report(rows, 2, small) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = {name: outcome for outcome, _, name, *_ in lines if name in {m.name for m in rows}}
    wanted = {"product": KILLED, "no-else": SURVIVED}
    assert found == wanted | dict.fromkeys(("import", "stale", "untested"), ERROR)
    assert ["by", "test_share"] in [line[-2:] for line in lines]
    summary = " ".join(lines[-1])
    assert summary.startswith("5 mutants: 1 killed, 1 survived, 3 errors; ")
    assert (small.source / "maskalign/share.py").read_text() == before
    assert [p.name for p in small.folder.iterdir()] == ["unmutated"]
    assert mutants.report(rows[:1], 1, Trial(small.folder / "again", small.source, small.unit)) == 0


def test_nothing_is_judged_by_tests_that_fail_without_a_mutation(small, capsys):
    (small.unit / "test_share.py").write_text("import maskalign.share\ndef test_no(): assert 0")
    assert mutants.report([Mutant("product", "share", "a / b", "a * b")], 1, small) == 1
    assert "tests fail:\ntest_share.py: test_no\n" in capsys.readouterr().out


def test_a_mutant_that_does_not_end_counts_as_killed_and_is_named():
    assert mutants.verdict(mutants.Run(mutants.TOO_LONG, 9.0, None, "time limit of 9 s")) == (
        KILLED,
        "by the time limit of 9 s",
    )


def test_mutants_are_chosen_by_module_and_by_name():
    few = mutants.chosen(ROWS, ["diversity", "beats-naive-at-any-k"])
    assert {m.module for m in few} == {"diversity", "claims"}
    assert len([m for m in few if m.module == "claims"]) == 1
    assert mutants.chosen(ROWS, []) == ROWS
    with pytest.raises(ValueError, match="neither a module nor a mutant of the table: nothing"):
        mutants.chosen(ROWS, ["nothing", "claims"])
