"""What a user hands over beside the values of a study: its file and the folders of its data."""

from collections.abc import Sequence
from pathlib import Path

from maskalign.references import FOLDERS
from maskalign.study import Study


def check_study_file(files: Sequence[str | Path]) -> None:
    """Raise ValueError, one line, if values are given but no file whose values they change."""
    if not files:
        raise ValueError(
            "--config changes values of a study, but none is given; give one as well, as in "
            "--configfile config/demo.yaml"
        )


def check_folders(study: Study, prepared: Path) -> None:
    """Raise ValueError, one line, if data that is still to be read lies in no folder.

    Args:
        study: the study; only data sets of its experiments are looked for.
        prepared: folder of its prepared data sets. What is there is not read again.
    """
    used = {e["dataset"] for e in study.config["experiments"].values()}
    for name, dataset in study.config["datasets"].items():
        suffix = "json" if dataset["source"] in FOLDERS else "safetensors"
        if name in used and dataset["path"] and not (prepared / f"{name}.{suffix}").exists():
            _check_folder(f"datasets.{name}.path", dataset["path"], must_exist=True)
    _check_folder("data.root", study.config["data"]["root"], must_exist=False)


def _check_folder(key: str, folder: str, must_exist: bool) -> None:
    try:
        path = Path(folder).expanduser()
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, a home that is not known
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{key}: {folder!r} is not allowed ({reason})") from None
    if exists and not is_folder:
        raise ValueError(f"{key}: {folder!r} is a file, must be a folder")
    if must_exist and not exists:
        raise ValueError(f"{key}: folder {folder!r} does not exist")
