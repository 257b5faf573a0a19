"""Train one dense model."""

from maskalign.job import job

gpus = snakemake.params.values["processes"]

with job(snakemake, gpus):
    from maskalign import stages

    stages.dense(
        data=snakemake.input.data,
        values=snakemake.params.values,
        state=snakemake.params.state,
        model=snakemake.output.model,
        checkpoints=snakemake.output.checkpoints,
        history=snakemake.output.history,
        result=snakemake.output.result,
    )
