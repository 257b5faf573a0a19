"""Measure how fast this device trains the study's networks."""

from pathlib import Path

from maskalign.job import job

with job(snakemake, gpus=1):
    from maskalign import study, throughput

    throughput.measure_study(study.load(snakemake.config), Path(snakemake.output[0]))
