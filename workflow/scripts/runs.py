"""Collect all results in two tables."""

from maskalign.job import job

with job(snakemake.log[0], snakemake.threads):
    from maskalign import results

    metrics = results.collect_metrics(snakemake.input.records)
    results.write_rows(snakemake.output.runs, metrics, results.COLUMNS)
    curves = results.collect_curves(snakemake.input.curves)
    results.write_rows(snakemake.output.curves, curves, results.CURVE_COLUMNS)
