"""Train under a mask."""

from maskalign.job import job

gpus = snakemake.params.values["processes"]

with job(snakemake, gpus):
    from maskalign import stages

    stages.sparse(
        data=snakemake.input.data,
        values=snakemake.params.values,
        checkpoints=snakemake.input.checkpoints,
        imp_mask=snakemake.input.imp_mask,
        permutation=snakemake.input.permutation or None,
        state=snakemake.params.state,
        model=snakemake.output.model,
        mask=snakemake.output.mask,
        history=snakemake.output.history,
        result=snakemake.output.result,
    )
