"""The jobs of a piece as data: what Snakemake's rules say, for a machine without Snakemake.

A job is a call of a stage's function with the files of its run and of the runs that it needs, below
the same folders as Snakemake's.
"""

from collections.abc import Iterable
from typing import Any

from maskalign import cost, pieces
from maskalign.identity import checkpoint_name, values_hash
from maskalign.references import FOLDERS
from maskalign.study import Study
from maskalign.versions import RESULT_VERSION

Job = dict[str, Any]

WEIGHTS, MASK, PERMUTATION = "model.safetensors", "mask.safetensors", "permutation.safetensors"
TRAINED = {"model": WEIGHTS, "history": pieces.HISTORY}
# By stage: its function, and the files of its own run that it writes, by argument.
FUNCTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "dense": ("maskalign.stages:dense", TRAINED | {"checkpoints": "checkpoints"}),
    "imp_round": ("maskalign.stages:imp", TRAINED | {"mask": MASK}),
    "imp": ("maskalign.stages:imp", TRAINED | {"mask": MASK}),
    "match": ("maskalign.stages:match", {"permutation": PERMUTATION}),
    "sparse": ("maskalign.stages:sparse", TRAINED | {"mask": MASK}),
    "interpolation": ("maskalign.analyses:interpolation", {"curve": "curve.csv"}),
    "imp_barrier": ("maskalign.analyses:imp_barrier", {"curve": "curve.csv"}),
    "landscape": ("maskalign.analyses:landscape", {"grid": "grid.csv"}),
    "diagnosis": ("maskalign.analyses:diagnosis", {}),
}
# The files of other runs that it reads, by argument: the role of these runs, and the file's name.
PARENTS: dict[str, dict[str, tuple[str, str]]] = {
    "dense": {},
    "imp_round": {"start": ("before", WEIGHTS), "start_mask": ("before_mask", MASK)},
    "imp": {"start": ("before", WEIGHTS), "start_mask": ("before_mask", MASK)},
    "match": {
        "a": ("a", WEIGHTS),
        "b": ("b", WEIGHTS),
        "b_checkpoints": ("b", "checkpoints"),
        "beside": ("beside", PERMUTATION),
    },
    "sparse": {
        "checkpoints": ("init", "checkpoints"),
        "imp_mask": ("mask", MASK),
        "permutation": ("match", PERMUTATION),
    },
    "interpolation": {
        "a": ("a", WEIGHTS),
        "b": ("b", WEIGHTS),
        "permutation": ("match", PERMUTATION),
    },
    "imp_barrier": {
        "start": ("start", WEIGHTS),
        "rounds": ("rounds", WEIGHTS),
        "masks": ("rounds", MASK),
    },
    "landscape": {
        "a": ("a", WEIGHTS),
        "lth": ("lth", WEIGHTS),
        "permuted": ("permuted", WEIGHTS),
        "permutation": ("match", PERMUTATION),
    },
    "diagnosis": {
        "a": ("a", WEIGHTS),
        "b": ("b", WEIGHTS),
        "permutation": ("match", PERMUTATION),
        "masks": ("masks", MASK),
        "own": ("own", MASK),
    },
}
STATEFUL = ("dense", "imp_round", "imp", "sparse")  # that go on where they were


def plan(study: Study, pairs: Iterable[int]) -> dict[str, Any]:
    """Return the jobs of these pairs, as JSON may hold them.

    Returns:
        ``study``, ``pairs`` and ``jobs``. A job has ``name``, the path of its run; ``function``;
        ``arguments``; ``values``, a hash of what determines it; ``needs``, the names of the jobs
        before it; ``reads``, their files that it reads; ``makes``, its record, or the file of
        prepared data; ``state``, the folder that lets a training go on; and ``epochs`` of training.

    Raises:
        ValueError: one line, if the study cannot be cut into pieces or lacks one of the pairs.
    """
    known = pieces.pairs(study)
    pairs = list(pairs)
    for pair in pairs:
        if pair not in known:
            every = ", ".join(map(str, known))
            raise ValueError(f"study '{study.name}' has no pair {pair}, must be one of {every}")
    paths = [path for pair in pairs for path in known[pair]]
    datasets = dict.fromkeys(study.run(path)["dataset"] for path in paths)
    jobs = [_data(study, name) for name in datasets] + [_job(study, path) for path in paths]
    return {"study": study.name, "pairs": pairs, "jobs": jobs}


def _prepared(study: Study, dataset: str) -> str:
    kind = "json" if study.config["datasets"][dataset]["source"] in FOLDERS else "safetensors"
    return f"results/{study.name}/data/{dataset}.{kind}"


def _data(study: Study, dataset: str) -> Job:
    file = _prepared(study, dataset)
    arguments = {
        "spec": study.config["datasets"][dataset],
        "out": file,
        "root": study.config["data"]["root"],
        "version": RESULT_VERSION["data"],
    }
    about = {"name": file, "function": "maskalign.sources:prepare", "arguments": arguments}
    about |= {"values": values_hash(study.data(dataset)), "makes": file}
    return about | {"needs": [], "reads": [], "state": [], "epochs": 0}


def _job(study: Study, path: str) -> Job:
    run = study.run(path)
    function, written = FUNCTIONS[run["stage"]]
    own, data = f"{study.runs_folder}/{path}", _prepared(study, run["dataset"])
    found = {
        name: _files(study, run["parents"][role], file)
        for name, (role, file) in PARENTS[run["stage"]].items()
    }
    arguments: dict[str, Any] = {name: files or None for name, files in found.items()}
    arguments |= {name: f"{own}/{file}" for name, file in written.items()}
    arguments |= {"data": data, "values": run["values"], "result": f"{own}/result.json"}
    state = [f"results/{study.name}/state/{path}"] if run["stage"] in STATEFUL else []
    if state:
        arguments["state"] = state[0]
    needs = [data, *dict.fromkeys(pieces.parents(run))]
    about: Job = {"name": path, "function": function, "arguments": arguments, "needs": needs}
    about |= {"values": values_hash(run["values"]), "state": state}
    about["reads"] = [file for name in found for file in _read(run, name, found[name])]
    return about | {"makes": arguments["result"], "epochs": cost.of(run, (0, 0)).epochs}


def _files(study: Study, runs: str | list[str], name: str) -> str | list[str]:
    """Return file ``name`` of a run or of several."""
    if isinstance(runs, str):
        return f"{study.runs_folder}/{runs}/{name}"
    return [f"{study.runs_folder}/{path}/{name}" for path in runs]


def _read(run: dict[str, Any], argument: str, files: str | list[str]) -> list[str]:
    """Return the files that a run reads of an argument: of checkpoints, one or none."""
    if argument == "checkpoints":
        return [f"{files}/{checkpoint_name(run['values']['start_epoch'])}"]
    if argument == "b_checkpoints":
        epoch, last = run["values"]["b_epoch"], run["values"]["dense"]["epochs"]
        return [f"{files}/{checkpoint_name(epoch)}"] if epoch < last else []
    return [files] if isinstance(files, str) else files
