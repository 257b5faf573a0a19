"""Interpolate between a dense model and its IMP rounds."""

from maskalign.job import job

with job(snakemake, gpus=1):
    from maskalign import analyses

    analyses.imp_barrier(
        data=snakemake.input.data,
        values=snakemake.params.values,
        start=snakemake.input.start,
        rounds=snakemake.input.rounds,
        masks=snakemake.input.masks,
        curve=snakemake.output.curve,
        result=snakemake.output.result,
    )
