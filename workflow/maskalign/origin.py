"""The versions and commits behind results, as runs.csv and its like hold them.

Every run has the version of its stage (``versions.RESULT_VERSION``) and those of all stages behind
it.
"""

from collections.abc import Iterable

import pandas as pd

from maskalign.versions import RESULT_VERSION

SHOWN = 12  # characters of a commit


def warning(rows: pd.DataFrame) -> str:
    """Return a warning if rows come from more than one result version of a stage, or nothing.

    The version that this code makes counts as well: rows that are all of an older one are warned
    of. The sentence lists the commits that made the rows.

    Args:
        rows: some rows of runs.csv, connectivity.csv or landscapes.csv.
    """
    made: dict[str, set[int]] = {}
    for text in rows["versions"].dropna().unique():
        for part in text.split(", "):
            stage, version = part.split(" ")
            made.setdefault(stage, set()).add(int(version))
    old = {s: v for s, v in made.items() if v != {RESULT_VERSION.get(s)}}
    if not old:
        return ""
    parts = [
        f"{stage} {' and '.join(map(str, sorted(versions)))} (this code makes "
        f"{RESULT_VERSION.get(stage, 'no such results')})"
        for stage, versions in sorted(old.items())
    ]
    commits = ", ".join(map(_short, sorted(rows["commit"].dropna().unique())))
    return (
        "Warning: the runs behind this come from several result versions, or from another one than "
        "this code makes: "
        f"{'; '.join(parts)}. They were made at {f'commit {commits}' if commits else 'no commit'}."
    )


def paragraph(rows: pd.DataFrame) -> list[str]:
    """Return ``warning`` as lines of Markdown; no lines if there is nothing to warn of."""
    text = warning(rows)
    return [f"**{text}**", ""] if text else []


def behind(cells: pd.DataFrame, *tables: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``tables`` that belong to the runs behind ``cells`` (column ``runs``).

    ``runs`` is empty for a cell that the study did not run or cannot compare.
    """
    paths = {path for runs in cells["runs"].dropna() for path in runs.split()}
    return pd.concat([table[table["path"].isin(paths)] for table in tables])


def joined(paths: Iterable[str]) -> str:
    """Return the paths of runs as one text, each once, sorted."""
    return " ".join(sorted(set(paths)))


def _short(commit: str) -> str:
    return commit[:SHOWN] + "-dirty" * commit.endswith("-dirty")
