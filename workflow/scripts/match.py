"""Match one model to another."""

from maskalign.job import job

with job(snakemake, gpus=1):
    from maskalign import stages

    stages.match(
        data=snakemake.input.data,
        values=snakemake.params.values,
        a=snakemake.input.a,
        b=snakemake.input.b,
        b_checkpoints=snakemake.input.b_checkpoints,
        beside=snakemake.input.beside or None,
        permutation=snakemake.output.permutation,
        result=snakemake.output.result,
    )
