"""Collect all results in three tables."""

from maskalign.job import job

with job(snakemake):
    from maskalign import results, study

    config = study.load(snakemake.config)
    for role, columns in results.TABLES.items():
        rows = results.collect(role, snakemake.input[role], config)
        results.write_rows(snakemake.output[role], rows, columns)
