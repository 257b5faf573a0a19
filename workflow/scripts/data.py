"""Prepare one data set."""

from pathlib import Path

from maskalign.job import job

with job(snakemake):
    from maskalign import sources, study

    config = study.load(snakemake.config).config
    sources.prepare(
        config["datasets"][snakemake.wildcards.dataset],
        Path(snakemake.output[0]),
        root=Path(config["data"]["root"]),
        version=snakemake.params.version,
    )
