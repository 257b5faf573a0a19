"""Collect all results in three tables."""

from maskalign.job import job

with job(snakemake.log[0], snakemake.threads):
    from maskalign import results

    metrics = results.collect_metrics(snakemake.input.records)
    results.write_rows(snakemake.output.runs, metrics, results.COLUMNS)
    for part, columns in (("curves", results.CURVE_COLUMNS), ("planes", results.PLANE_COLUMNS)):
        rows = results.collect_rows(snakemake.input[part])
        results.write_rows(snakemake.output[part], rows, columns)
