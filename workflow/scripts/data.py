"""Prepare one data set."""

from pathlib import Path

from maskalign.job import job

with job(snakemake.log[0], snakemake.threads):
    from maskalign import sources

    sources.prepare(snakemake.params.spec, Path(snakemake.output[0]))
