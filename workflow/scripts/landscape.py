"""Evaluate a plane of the 0-1 loss."""

from maskalign.job import job

with job(snakemake, gpus=1):
    from maskalign import analyses

    analyses.landscape(
        data=snakemake.input.data,
        values=snakemake.params.values,
        a=snakemake.input.a,
        lth=snakemake.input.lth,
        permuted=snakemake.input.permuted,
        permutation=snakemake.input.permutation,
        grid=snakemake.output.grid,
        result=snakemake.output.result,
    )
