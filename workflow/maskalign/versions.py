"""The version of each stage's results. Every job imports this, so it imports nothing."""

# Raised by hand when a stage's results change, so that Snakemake runs it and what follows again;
# ``tests/unit/test_golden.py`` fails when results change and the version did not. No job is run
# again because its code changed.
RESULT_VERSION = {
    "data": 1,
    "dense": 1,
    "imp_round": 1,
    "imp": 1,
    "match": 2,
    "sparse": 1,
    "interpolation": 1,
    "imp_barrier": 1,
    "landscape": 2,
    "diversity": 1,
    "diagnosis": 1,
}
