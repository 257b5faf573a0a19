"""Made-up studies for property tests: valid ones, and ones with a single thing changed."""

import copy

from hypothesis import strategies as st
from maskalign.methods import METHODS, trained

CHANNELS = {"digits": 1, "mnist5k": 1, "mnist5k-folder": 1, "cifar10": 3, "imagefolder": 3}
NETS = {
    "resnet20": {"blocks": [1, 1], "channels": 4},
    "vgg11": {"plan": [4, "M", 4]},
    "resnet50": {"layers": [1, 1, 1, 1], "channels": 4},
}
NAMES = ["a", "b-2", "c_3", "d.4"]
LIST = {"unique": True, "min_size": 1, "max_size": 2}
# Sparsities have a name of their own in paths, however near they are.
SPARSITIES = st.integers(1, 99_999).map(lambda n: n / 100_000)
WIDTHS = st.sampled_from([1, 2, 4, 0.5, 1.5])
EPOCHS = 8
OWN = {"mine-1": {"function": "maskalign.controls:shuffled", "ticket": "b"}}


def some(values, **limits):
    return st.lists(
        values if isinstance(values, st.SearchStrategy) else st.sampled_from(values), **limits
    )


@st.composite
def datasets(draw):
    source = draw(st.sampled_from(sorted(CHANNELS)))
    compose = draw(st.sampled_from([1, 2])) if source == "mnist5k" else 1
    channels = CHANNELS[source] * compose
    dataset = {
        "source": source,
        "compose": compose,
        "image_size": draw(st.integers(8, 32)),
        "mean": [0.5] * channels,
        "std": [0.25] * channels,
    }
    if source == "imagefolder":
        dataset["path"] = "images"
    return dataset


@st.composite
def recipes(draw):
    keep = draw(st.none() | some(range(EPOCHS), unique=True, min_size=1))
    return {
        "batch_size": draw(st.sampled_from([16, 64])),
        "keep_epochs": keep,
        "dense": {"epochs": EPOCHS, "lr": 0.1},
        "imp": {"epochs": 1, "lr": 0.01, "fraction": draw(st.sampled_from([0.2, 0.5, 0.9]))},
        "sparse": {"lr": 0.1, "schedule": "steps", "milestones": [1, 3]},
        "matching": {"method": draw(st.sampled_from(["activations", "weights"]))},
    }


@st.composite
def experiments(draw, dataset, model, training, kept):
    """Draw an experiment; parts of which a model has one only come with the first pair 0."""
    before = st.sampled_from([k for k in kept if k < EPOCHS])
    widths, sparsity = some(WIDTHS, **LIST), SPARSITIES
    parts = {
        "early_matching": st.fixed_dictionaries(
            {
                "widths": widths,
                "rewind_epoch": before,
                "matching_epochs": some([*kept, EPOCHS], **LIST),
            }
        ),
        "matching_comparison": st.fixed_dictionaries(
            {"widths": widths, "rewind_epoch": before},
            optional={"sparsities": some(sparsity, **LIST)},
        ),
        "diversity": st.fixed_dictionaries(
            {"widths": widths, "sparsity": sparsity, "rewind_epoch": before},
            optional={"members": st.integers(2, 4)},
        ),
        "interpolation": st.fixed_dictionaries({"widths": widths}),
        "imp_barrier": st.fixed_dictionaries({"widths": widths, "sparsity": sparsity}),
        "landscape": st.fixed_dictionaries(
            {"widths": widths, "sparsity": sparsity, "rewind_epoch": before}
        ),
        "diagnosis": st.fixed_dictionaries(
            {"widths": widths}, optional={"sparsities": some(sparsity, **LIST)}
        ),
    }
    experiment = {
        "dataset": dataset,
        "model": model,
        "training": training,
        "widths": widths,
        "pairs": st.integers(1, 2),
        "sparsities": some(sparsity, **LIST),
        "rewind_epochs": some(before, **LIST),
    }
    fixed = {
        k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in experiment.items()
    }
    optional = {
        "methods": some([*trained(METHODS), *OWN], unique=True, min_size=1, max_size=4),
        "lengths": some([1, 2, 1.0, 3], **LIST),
        "rates": some([1, 0.5, 1e-5], **LIST),
        "optional": st.booleans(),
    }
    return draw(st.fixed_dictionaries(fixed, optional=optional | parts))


@st.composite
def studies(draw):
    """Draw a study: one to three of everything, and tables and figures of what it trains."""

    def named(values):
        names = draw(some(NAMES, unique=True, min_size=1, max_size=3))
        return {name: draw(values) for name in names}

    architectures = st.sampled_from(sorted(NETS))
    config = {
        "study": draw(st.sampled_from(NAMES)),
        "protocol": draw(st.sampled_from(["paper", "released"])),
        "datasets": named(datasets()),
        "models": named(architectures.map(lambda a: {"architecture": a, "options": NETS[a]})),
        "training": named(recipes()),
    }
    pairs = [(d, m) for d in config["datasets"] for m in config["models"]]
    chosen = draw(some(pairs, unique=True, min_size=1, max_size=3))
    config["experiments"] = {}
    for i, (dataset, model) in enumerate(chosen):
        training = draw(st.sampled_from(sorted(config["training"])))
        kept = config["training"][training]["keep_epochs"] or [0]
        config["experiments"][f"e{i}"] = draw(experiments(dataset, model, training, kept))
    config["artefacts"] = draw(artefacts(chosen))
    config["methods"] = OWN
    if any(e.get("optional") for e in config["experiments"].values()):
        config["run_optional"] = True
    return copy.deepcopy(config)  # nothing is shared, so one thing can be changed


@st.composite
def artefacts(draw, trained):
    selection = st.sampled_from(trained).flatmap(
        lambda pair: st.fixed_dictionaries(
            {"dataset": st.just(pair[0]), "model": st.just(pair[1])},
            optional={
                "widths": some(WIDTHS, **LIST),
                "sparsities": some(SPARSITIES, **LIST),
                "rewind_epochs": some(range(EPOCHS), **LIST),
            },
        )
    )
    shows = some(selection, min_size=1, max_size=2, unique_by=lambda s: str(sorted(s.items())))
    tables = ["diversity", "training", "pruning", "accuracy", "early_matching", "matching"]
    tables += ["methods", "diagnosis"]
    figures = ["toy", "procedure", "interpolation", "imp", "rewind", "sparsity", "matching"]
    figures += ["methods", "length"]
    found = {"tables": {}, "figures": {}}
    for i, kind in enumerate(draw(some(tables, unique=True, max_size=4))):
        found["tables"][f"table_{i:02d}"] = {"kind": kind, "shows": draw(shows)}
    for i, kind in enumerate(draw(some(figures, unique=True, max_size=4))):
        figure = {"kind": kind, "shows": draw(shows)}
        if kind == "interpolation":
            figure["metric"] = draw(st.sampled_from(["loss", "error"]))
        found["figures"][f"figure_{i:02d}"] = figure
    return found


# -- one thing changed -----------------------------------------------------------------------------

TEXTS = st.sampled_from(
    ["", ".", "..", "../x", "/x", "a b", "a\nb", "\u0430", "null", "1e999", "nan"]
)
NUMBERS = st.sampled_from(
    [0, 1, -1, 2.0, 0.5, 1e-9, 1e-320, 1e308, 10**9, 10**400, float("nan"), float("inf"), 1 - 1e-9]
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.integers(),
    st.floats(),
    TEXTS,
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=3),
    st.lists(NUMBERS | TEXTS, max_size=3),
    st.dictionaries(TEXTS | st.integers() | st.none(), NUMBERS, max_size=2),
)


def places(value, path=()):
    """Yield the path of everything below ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items if isinstance(value, dict | list) else ():
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


@st.composite
def changed(draw):
    """Draw a study with one thing changed, and what was done."""
    config = draw(studies())
    *path, last = draw(st.sampled_from(list(places(config))))
    holder = config
    for part in path:
        holder = holder[part]
    how = draw(st.sampled_from(["delete", "replace", "rename", "add", "number"]))
    if how == "delete":
        del holder[last]
    elif how == "replace":
        holder[last] = draw(VALUES)
    elif how == "number":
        holder[last] = draw(NUMBERS)
    elif isinstance(holder, list):
        holder.append(draw(VALUES))
    elif how == "add":
        holder[draw(st.text(max_size=8) | TEXTS | st.integers())] = draw(VALUES)
    else:
        holder[draw(st.text(max_size=8) | TEXTS)] = holder.pop(last)
    return config, (how, *path, last)
