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


# A reservation stands first on the claims page of its study.
RESERVATIONS = {
    "fashion": (
        "These verdicts are about short training. They do not confirm the paper's claims. The "
        "small study trains for T - k epochs after rewinding: four from k = 4. VGG5's naive "
        "networks have hardly begun to learn by then: at S = 95 % and k = 4 they reach 13 to "
        "23 % on average, by width, where chance is 10 %. The gap between permuted and naive "
        "shrinks when the same runs train longer, measured on three pairs at S = 95 % and k = "
        "4. ResNet8 ×2 on pairs of garments: 4.7 points after 4 epochs, 4.2 after 16, 1.7 "
        "after 32. VGG5 ×1 on ten classes: 19.5 points after 4 epochs and 1.6 after 16; with "
        "four times the learning rate as well, 0.2 after 16. The network that IMP leaves at S "
        "= 95 % (ResNet8 ×2) has an accuracy of 14.7 %, less than naive training, and its "
        "dense network 39.7 %: the mask is no winning ticket. The corrected barriers between "
        "aligned networks are 15 to 21.5 points in ResNet8: A and B do not lie in one basin. "
        "The verdicts were reached by earlier rules: three widths of a pair counted as three "
        "independent units, so n = 30 is ten pairs; two data sets and two architectures were "
        "pooled; and the claim that IMP stays connected ignored where the line "
        "ends."
    ),
}
SHOWN = {
    "demo": _files("03 04 06 08 12 13 14 15", "01 09 12 17 18 19"),
    "fashion": _files("03 04 06 08 10 13", "01 05 09 11 12 13 15 17"),
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
    if reservation := RESERVATIONS.get(study.name):
        contents["claims.md"] = reserved(contents["claims.md"], reservation)
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


def reserved(page: bytes, reservation: str) -> bytes:
    """Return a Markdown page with a reservation below its title."""
    title, rest = page.decode().split("\n", 1)
    return f"{title}\n\n**{reservation}**\n{rest}".encode()


if __name__ == "__main__":
    try:
        chosen = read(sys.argv[1:])
        collect(chosen, Path("results") / chosen.name, FOLDER / chosen.name)
    except (OSError, ValueError) as error:
        sys.exit(f"gallery: {error}")
