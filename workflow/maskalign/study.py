"""A study: one configuration, validated, and the table of runs that it asks for.

This is the only module that knows the shape of the configuration. It imports neither torch nor
Snakemake, because every Snakemake process, also each job on a cluster, parses it anew.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from maskalign import configfiles, methods
from maskalign.identity import FACTORS, IDENTITY, values_hash
from maskalign.plan import Plan, data_values
from maskalign.references import GIVEN, StudyError, keep_epochs
from maskalign.schema import validate
from maskalign.versions import RESULT_VERSION

# What a run is called on disk. The rules use the same templates with wildcards.
MODEL_PATH = "{protocol}/{dataset}/{model}-x{width}"
_PAIR = "mask-{mask_seed}_init-{init_seed}"
PATHS = {
    "dense": MODEL_PATH + "/dense/init-{init_seed}",
    "imp_round": MODEL_PATH + "/imp/mask-{mask_seed}/round-{round}",
    "imp": MODEL_PATH + "/imp/mask-{mask_seed}/sparsity-{sparsity}",
    "match": MODEL_PATH + "/match/{matching_method}/" + _PAIR + "_epoch-{matching_epoch}",
    "sparse": MODEL_PATH
    + "/{method}/sparsity-{sparsity}/"
    + _PAIR
    + "_order-{order_seed}_rewind-{rewind_epoch}_match-{matching_method}-{matching_epoch}"
    + "{factors}",
    "interpolation": MODEL_PATH + "/interpolation/" + _PAIR + "_match-{matching_method}",
    "imp_barrier": MODEL_PATH + "/imp_barrier/mask-{mask_seed}_sparsity-{sparsity}",
    "landscape": MODEL_PATH
    + "/landscape/"
    + _PAIR
    + "_sparsity-{sparsity}_rewind-{rewind_epoch}_match-{matching_method}",
    "diversity": MODEL_PATH
    + "/diversity/mask-{mask_seed}_sparsity-{sparsity}_rewind-{rewind_epoch}",
    "diagnosis": MODEL_PATH + "/diagnosis/" + _PAIR + "_match-{matching_method}",
}

NOTHING = "none"  # matching, in a path, of a run that needs no permutation


class Study:
    """A validated study and its runs.

    Attributes:
        config: the configuration with every default filled in, without the experiments left out.
        methods: the methods that it may use, by name.
        left_out: for each experiment whose data was not given, the key that would give it.
        runs: one row a run, with columns ``stage``, ``path``, ``round``, those of ``IDENTITY`` and
            ``values``, the resolved values that determine the run, and ``parents``, the paths of
            the runs that it needs, by role.
    """

    def __init__(self, config: dict[str, Any]):
        """Validate ``config``; raise StudyError, one line, when it is not a study."""
        self.config = validate(config)
        self.name = self.config["study"]
        self.protocol = self.config["protocol"]
        self.methods = methods.of_study(self.config)
        self._leave_out_optional()
        self.left_out = self._leave_out()
        self._runs: dict[str, dict[str, Any]] = {}
        for name in self.config["experiments"]:
            Plan(self.config, name, self.methods, self.add).add()
        self.runs = pd.DataFrame(self._runs.values())

    # -- what the rules ask ------------------------------------------------------------------

    def data(self, name: str) -> dict[str, Any]:
        """Return what determines data set ``name``, once it is prepared."""
        return data_values(self.config["datasets"][name])

    def values(self, stage: str) -> Callable[[Any], dict[str, Any]]:
        """Return a params function: wildcards of a run of ``stage`` to its resolved values."""

        def resolve(wildcards) -> dict[str, Any]:
            return self.run(PATHS[stage].format(**dict(wildcards.items())))["values"]

        return resolve

    def run(self, path: str) -> dict[str, Any]:
        """Return the run stored at ``path``; raise StudyError when the study has no such run."""
        try:
            return self._runs[path]
        except KeyError:
            raise StudyError(f"{path}: study '{self.name}' has no such run") from None

    def fingerprint(self) -> str:
        """Return a hash of all runs and what determines them."""
        return values_hash({r["path"]: r["values"] for r in self._runs.values()})

    def paths(self, *stages: str) -> list[str]:
        """Return the paths of all runs of the given stages, in the order of the study."""
        return [r["path"] for r in self._runs.values() if r["stage"] in stages]

    @property
    def runs_folder(self) -> str:
        """Return the folder that holds the runs' own folders."""
        return f"results/{self.name}/runs"

    def selected(self, selection: dict[str, Any], *stages: str) -> list[str]:
        """Return the paths of the runs of ``stages`` that a table's or figure's selection shows."""
        widths = selection.get("widths")
        return [
            r["path"]
            for r in self._runs.values()
            if r["stage"] in stages
            and (r["dataset"], r["model"]) == (selection["dataset"], selection["model"])
            and (widths is None or r["width"] in widths)
        ]

    def recipes(self, dataset: str, model: str) -> list[dict[str, Any]]:
        """Return the distinct training recipes with which ``model`` is trained on ``dataset``."""
        names = {
            e["training"]: None
            for e in self.config["experiments"].values()
            if (e["dataset"], e["model"]) == (dataset, model)
        }
        return [self.config["training"][name] for name in names]

    # -- how the table of runs is made ---------------------------------------------------------

    def _leave_out_optional(self) -> None:
        """Remove optional experiments, tables and figures, unless they are asked for."""
        if self.config["run_optional"]:
            return
        # The same checkpoints with and without them, or the dense networks would train again.
        optional = any(e["optional"] for e in self.config["experiments"].values())
        for name, recipe in self.config["training"].items():
            if optional and recipe["keep_epochs"] is None:
                recipe["keep_epochs"] = keep_epochs(self.config, name)
        parts = self.config["artefacts"]
        for part in (self.config["experiments"], parts["tables"], parts["figures"]):
            for name in [name for name, entry in part.items() if entry["optional"]]:
                del part[name]
        if not self.config["experiments"]:
            raise StudyError("experiments: all are optional; set run_optional to true to run them")

    def _leave_out(self) -> dict[str, str]:
        """Remove the experiments whose data was not given; return what would give it, by name."""
        datasets, experiments = self.config["datasets"], self.config["experiments"]
        absent = {k for k, d in datasets.items() if d["source"] in GIVEN and d["path"] is None}
        keys = {k: f"datasets.{e['dataset']}.path" for k, e in experiments.items()}
        left_out = {k: keys[k] for k, e in experiments.items() if e["dataset"] in absent}
        for name, key in left_out.items():
            if self.config["require_all"]:
                raise StudyError(f"{key}: is not given, but experiments.{name} needs it")
            del experiments[name]
        return left_out

    def add(
        self, owner: str, stage: str, values: dict[str, Any], parents: dict[str, Any], **fields
    ) -> str:
        """Add one run, unless it is there, and return its path.

        Raises:
            StudyError: if an experiment before asked for the same path with other values.
        """
        fields = dict.fromkeys([*IDENTITY, "round"]) | fields | {"protocol": self.protocol}
        unnamed = [k for k in FACTORS if fields[k] == 1]
        factors = "".join(f"_{k}-{_text(fields[k])}" for k in FACTORS if fields[k] not in (1, None))
        path = PATHS[stage].format(factors=factors, **{k: _text(v) for k, v in fields.items()})
        identity = {"version": RESULT_VERSION[stage], "stage": stage}
        named = {k: v for k, v in fields.items() if v is not None and k not in unnamed}
        resolved = identity | named | values
        # Snakemake compares params as text: another order of the keys must not retrain.
        resolved = json.loads(json.dumps(resolved, sort_keys=True))
        known = self._runs.get(path)
        if known is None:
            row = fields | {"stage": stage, "path": path, "owner": owner}
            self._runs[path] = row | {"values": resolved, "parents": parents}
        elif different := _different(known["values"], resolved):
            raise StudyError(
                f"experiments.{owner}: same runs as experiments.{known['owner']} but other "
                f"values of {', '.join(different)}; give the model or the data set another name"
            )
        elif different := _different(known["parents"], parents):  # ensembles of another size
            raise StudyError(
                f"experiments.{owner}: same runs as experiments.{known['owner']} but of other "
                f"runs ({', '.join(different)}); give the model or the data set another name"
            )
        return path


def load(config: dict[str, Any], files: Iterable[str | Path] = ()) -> Study:
    """Return the study of a configuration that Snakemake has merged from ``files``.

    Raises:
        ValueError: one line that names the key or the file, and what is allowed.
    """
    for file in files:
        configfiles.check(Path(file))
    return Study(config)


def read(files: Iterable[str | Path]) -> Study:
    """Return the study of ``files``, merged as Snakemake merges what follows ``--configfile``.

    Raises:
        OSError, ValueError: as ``load``; or if a file cannot be read.
    """
    from snakemake.utils import update_config

    config: dict[str, Any] = {}
    for file in map(Path, files):
        configfiles.check(file)
        update_config(config, yaml.safe_load(file.read_text(encoding="utf-8")))
    return Study(config)


def _different(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return sorted(k for k in before.keys() | now if before.get(k) != now.get(k))


def _text(value: Any) -> str:
    """Return a value as it stands in a path."""
    if value is None:
        return NOTHING
    return format(value, "g") if isinstance(value, float) else str(value)
