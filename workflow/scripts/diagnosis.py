"""Compare masks made from A's with B's own, without training."""

from maskalign.job import job

with job(snakemake, gpus=1):
    from maskalign import analyses

    analyses.diagnosis(
        data=snakemake.input.data,
        values=snakemake.params.values,
        a=snakemake.input.a,
        b=snakemake.input.b,
        permutation=snakemake.input.permutation,
        masks=snakemake.input.masks,
        own=snakemake.input.own,
        result=snakemake.output.result,
    )
