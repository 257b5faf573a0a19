"""Compare the ensembles of Table 1."""

from maskalign.job import job

METHODS = ["dense", "imp", "lth", "permuted", "naive"]

with job(snakemake, gpus=1):
    from maskalign import analyses

    analyses.diversity(
        data=snakemake.input.data,
        values=snakemake.params.values,
        members={method: snakemake.input[method] for method in METHODS},
        result=snakemake.output.result,
    )
