# The study and its folders. Wildcards are limited to what the study names, so that a target
# outside it is an unknown file and not a wrong run.
import re
import sys
from pathlib import Path

from maskalign import captions, given, methods, selection, versions
from maskalign import study as studies
from maskalign.identity import values_hash
from maskalign.requests import Requests
from maskalign.references import FOLDERS

# What was measured elsewhere, and here.
THROUGHPUT = f"{workflow.basedir}/config/throughput.csv", "results/throughput.csv"

try:
    given.check_study_file(workflow.configfiles)
    STUDY = studies.load(config, workflow.configfiles)
    given.check_folders(STUDY, Path("results", STUDY.name, "data"))
    REQUESTS = Requests(STUDY, *map(Path, THROUGHPUT))
except ValueError as error:
    sys.exit(f"study error: {error}")
for experiment, key in STUDY.left_out.items() if workflow.is_main_process else ():
    logger.warning(f"experiments.{experiment} is left out: its data is not given ({key})")

OUT = f"results/{STUDY.name}"
RUNS = STUDY.runs_folder
STATE = f"{OUT}/state"
LOGS = f"{OUT}/logs"
PATHS = studies.PATHS
MODEL = f"{RUNS}/{studies.MODEL_PATH}"
DATASETS = STUDY.config["datasets"]


def any_of(names):
    """Return a wildcard's pattern: one of the names, and nothing where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def data_of(wildcards):
    """Return the prepared data set: a tensor file, or the index of an image folder."""
    source = DATASETS[wildcards.dataset]["source"]
    suffix = "json" if source in FOLDERS else "safetensors"
    return f"{OUT}/data/{wildcards.dataset}.{suffix}"


def parents(stage, role, file):
    """Return an input function: ``file`` of the runs that a run of ``stage`` needs as ``role``."""

    def find(wildcards):
        run = STUDY.run(PATHS[stage].format(**dict(wildcards.items())))
        found = run["parents"][role]
        if isinstance(found, str):
            return f"{RUNS}/{found}/{file}"
        return [f"{RUNS}/{path}/{file}" for path in found]

    return find


def sources(kind):
    """Return an input function: the results that one of the ``kind`` (tables, figures) shows."""

    def find(wildcards):
        (name,) = wildcards
        found = selection.sources(STUDY, kind, name)
        return {role: [f"{RUNS}/{file}" for file in files] for role, files in found.items()}

    return find


wildcard_constraints:
    protocol=STUDY.protocol,
    dataset=any_of(DATASETS),
    model=any_of(STUDY.config["models"]),
    width=r"[0-9.]+(e[+-]?[0-9]+)?",
    sparsity=r"[0-9.]+(e-[0-9]+)?",
    method=any_of(methods.trained(STUDY.methods)),
    mask_seed=r"\d+",
    init_seed=r"\d+",
    order_seed=r"\d+",
    rewind_epoch=r"\d+",
    matching_epoch=r"\d+|none",
    matching_method="activations|weights|activity|none",
    factors=r"(_length-[0-9.e+-]+)?(_rate-[0-9.e+-]+)?",
    round=r"\d+",
