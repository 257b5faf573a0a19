"""A study with two of everything, and all of its runs with their parents, written out by name.

Nothing here is computed by the study's plan: tests compare this list with it, and with the files
that Snakemake gives to each job.
"""

PAIRS = [(0, 1), (2, 3)]
EPOCHS = (0, 1, 2)  # rewind epochs
SPARSITIES = (0.6, 0.8)
LAST = 4
# Each round masks half of what is left; the last one lands on the target.
ROUNDS = {0.6: ["round-1", "sparsity-0.6"], 0.8: ["round-1", "round-2", "sparsity-0.8"]}
# Each method: the network whose weights it takes, and whose mask; how the mask is matched; the
# function that makes the mask.
METHODS = {
    "lth": ("a", "a", None, None),
    "naive": ("b", "a", None, None),
    "permuted": ("b", "a", "activations", None),
    "own": ("b", "b", None, None),
    "activity": ("b", "a", "activity", None),
    "permuted_fan": ("b", "a", "activations", "fan"),
    "fan": ("b", "a", None, "fan"),
    "random_permutation": ("b", "a", None, "random_permutation"),
    "shuffled": ("b", "a", None, "shuffled"),
    "uniform": ("b", "a", None, "uniform"),
    "erk": ("b", "a", None, "erk"),
}
LEVELS = {"round-1": 0.5, "round-2": 0.75, "sparsity-0.6": 0.6, "sparsity-0.8": 0.8}

STUDY = {
    "study": "wires",
    "datasets": {
        "digits": {
            "source": "digits",
            "image_size": 8,
            "mean": [0.3],
            "std": [0.38],
        }
    },
    "models": {"net": {"architecture": "resnet20", "options": {"blocks": [1], "channels": 4}}},
    "training": {
        "short": {
            "batch_size": 20,
            "keep_epochs": [0, 1, 2, 3],
            "dense": {"epochs": LAST, "lr": 0.05},
            "imp": {"epochs": 1, "lr": 0.01, "fraction": 0.5},
            "sparse": {"lr": 0.03},
        }
    },
    "experiments": {
        "all": {
            "dataset": "digits",
            "model": "net",
            "training": "short",
            "widths": [1],
            "pairs": len(PAIRS),
            "sparsities": list(SPARSITIES),
            "rewind_epochs": list(EPOCHS),
            "early_matching": {"widths": [1], "rewind_epoch": 2, "matching_epochs": [1, 3]},
            "matching_comparison": {"widths": [1], "sparsities": [0.8], "rewind_epoch": 1},
            "diversity": {"widths": [1], "sparsity": 0.6, "rewind_epoch": 1, "members": 3},
            "interpolation": {"widths": [1]},
            "imp_barrier": {"widths": [1], "sparsity": 0.8},
            "landscape": {"widths": [1], "sparsity": 0.8, "rewind_epoch": 2},
        },
        "controls": {
            "dataset": "digits",
            "model": "net",
            "training": "short",
            "widths": [1],
            "pairs": len(PAIRS),
            "sparsities": [0.6],
            "rewind_epochs": [1],
            "methods": list(METHODS),
            "diagnosis": {"widths": [1], "sparsities": [0.8, 0.6]},
        },
        "lengths": {
            "dataset": "digits",
            "model": "net",
            "training": "short",
            "widths": [1],
            "pairs": 1,
            "sparsities": [0.8],
            "rewind_epochs": [2],
            "methods": ["lth", "permuted", "shuffled"],
            "lengths": [1, 2, 0.5],
            "rates": [0.25, 1],
        },
    },
    "artefacts": {"tables": {}, "figures": {}},
}
FOLDER = "paper/digits/net-x1"


def dense(seed):
    return f"{FOLDER}/dense/init-{seed}"


def imp(seed, name):
    return f"{FOLDER}/imp/mask-{seed}/{name}"


def match(a, b, how="activations", epoch=LAST):
    return f"{FOLDER}/match/{how}/mask-{a}_init-{b}_epoch-{epoch}"


def sparse(method, a, b, sparsity, k, how=None, epoch=LAST, order=0, factors=""):
    start, ticket, own, _ = METHODS[method]
    matched = f"{how or own}-{epoch}" if own else "none-none"
    of = {"a": a, "b": b}
    return (
        f"{FOLDER}/{method}/sparsity-{sparsity}/"
        f"mask-{of[ticket]}_init-{of[start]}_order-{order}_rewind-{k}_match-{matched}{factors}"
    )


def runs() -> dict[str, dict]:
    """Return the parents of every run of the study by role, by path."""
    found = {}
    for seed in (0, 1, 2, 3):
        found[dense(seed)] = {}
    for a in (0, 1, 2, 3):  # B is pruned for its own mask and for the diagnosis
        for chain in ROUNDS.values():
            for i, name in enumerate(chain):
                found[imp(a, name)] = {
                    "before": imp(a, chain[i - 1]) if i else dense(a),
                    "before_mask": imp(a, chain[i - 1]) if i else [],
                }

    def add_match(a, b, how="activations", epoch=LAST):
        other = match(a, b, "activations", epoch) if how == "weights" else []
        path = match(a, b, how, epoch)
        found[path] = {"a": dense(a), "b": dense(b), "beside": other}
        return path

    def add_sparse(method, a, b, sparsity, k, **more):
        path, of = sparse(method, a, b, sparsity, k, **more), {"a": a, "b": b}
        start, ticket, own, _ = METHODS[method]
        how, epoch = more.get("how", own), more.get("epoch", LAST)
        found[path] = {
            "init": dense(of[start]),
            "mask": imp(of[ticket], f"sparsity-{sparsity}"),
            "match": add_match(a, b, how, epoch) if own else [],
        }
        return path

    for a, b in PAIRS:
        for sparsity in SPARSITIES:
            for k in EPOCHS:
                for method in ("lth", "naive", "permuted"):
                    add_sparse(method, a, b, sparsity, k)
            for epoch in (1, 3):
                add_sparse("permuted", a, b, sparsity, 2, epoch=epoch)
        add_sparse("permuted", a, b, 0.8, 1, how="weights")
        for method in METHODS:
            add_sparse(method, a, b, 0.6, 1)
        found[f"{FOLDER}/diagnosis/mask-{a}_init-{b}_match-activations"] = {
            "a": dense(a),
            "b": dense(b),
            "match": match(a, b),
            "masks": [imp(a, "sparsity-0.8"), imp(a, "sparsity-0.6")],
            "own": [imp(b, "sparsity-0.8"), imp(b, "sparsity-0.6")],
        }
        for how in ("activations", "weights"):
            found[f"{FOLDER}/interpolation/mask-{a}_init-{b}_match-{how}"] = {
                "a": dense(a),
                "b": dense(b),
                "match": add_match(a, b, how),
            }
        found[f"{FOLDER}/imp_barrier/mask-{a}_sparsity-0.8"] = {
            "start": dense(a),
            "rounds": [imp(a, name) for name in ROUNDS[0.8]],
        }
    for method in ("lth", "permuted", "shuffled"):
        for length in ("", "_length-2", "_length-0.5"):
            for rate in ("_rate-0.25", ""):
                add_sparse(method, 0, 1, 0.8, 2, factors=length + rate)
    found[f"{FOLDER}/landscape/mask-0_init-1_sparsity-0.8_rewind-2_match-activations"] = {
        "a": dense(0),
        "match": match(0, 1),
        "lth": sparse("lth", 0, 1, 0.8, 2),
        "permuted": sparse("permuted", 0, 1, 0.8, 2),
    }
    found[f"{FOLDER}/diversity/mask-0_sparsity-0.6_rewind-1"] = {
        "dense": [dense(0), dense(1), dense(2)],
        "imp": [imp(seed, "sparsity-0.6") for seed in (0, 1, 2)],
        "lth": [add_sparse("lth", 0, 0, 0.6, 1, order=order) for order in (0, 1, 2)],
        "permuted": [add_sparse("permuted", 0, b, 0.6, 1) for b in (1, 2, 3)],
        "naive": [add_sparse("naive", 0, b, 0.6, 1) for b in (1, 2, 3)],
    }
    return found
