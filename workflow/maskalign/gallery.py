"""The gallery: figures and tables of finished studies, small enough to be kept and shown.

``python -m maskalign.gallery config/demo.yaml`` copies those of one study, and writes beside them
what they come from.
"""

import hashlib
import sys
from pathlib import Path

from maskalign.files import atomic, write_json
from maskalign.results import provenance
from maskalign.study import Study, read

FOLDER = Path("results/gallery")


def _files(figures: str, tables: str) -> list[str]:
    """Return files of a study's results: figures with their captions, tables, claims."""
    drawn = [f"figures/figure_{n}.{kind}" for n in figures.split() for kind in ("png", "md")]
    return [*drawn, *(f"tables/table_{n}.md" for n in tables.split()), "claims.md"]


SHOWN = {
    "demo": _files("03 04 06 08 12 13 14 15", "01 09 12 17 18 19"),
}


def collect(study: Study, results: Path, folder: Path) -> None:
    """Copy what is shown of a finished study from ``results`` to ``folder``.

    Its ``source.json`` holds the study's name and fingerprint, the commit that drew it, and the
    SHA-256 of every file.

    Raises:
        ValueError, FileNotFoundError: one line, if nothing of the study is shown, or if it is not
            finished; nothing is written then.
    """
    if study.name not in SHOWN:
        raise ValueError(f"study {study.name}: must be one of {', '.join(SHOWN)}")
    contents = {Path(name).name: (results / name).read_bytes() for name in SHOWN[study.name]}
    source = {  # before the first file changes the working tree
        "study": study.name,
        "fingerprint": study.fingerprint(),
        "commit": provenance()["commit"],
        "sha256": {name: hashlib.sha256(each).hexdigest() for name, each in contents.items()},
    }
    for name, content in contents.items():
        with atomic(folder / name) as file:
            file.write_bytes(content)
    write_json(folder / "source.json", source)


if __name__ == "__main__":
    try:
        chosen = read(sys.argv[1:])
        collect(chosen, Path("results") / chosen.name, FOLDER / chosen.name)
    except (OSError, ValueError) as error:
        sys.exit(f"gallery: {error}")
