"""Interpolate between two dense models."""

from maskalign.job import job

with job(snakemake, gpus=1):
    from maskalign import analyses

    analyses.interpolation(
        data=snakemake.input.data,
        values=snakemake.params.values,
        a=snakemake.input.a,
        b=snakemake.input.b,
        permutation=snakemake.input.permutation,
        curve=snakemake.output.curve,
        result=snakemake.output.result,
    )
