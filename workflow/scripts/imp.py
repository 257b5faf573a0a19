"""Prune and fine-tune: one IMP round."""

from maskalign.job import job

gpus = snakemake.params.values["processes"]

with job(snakemake, gpus):
    from maskalign import stages

    stages.imp(
        data=snakemake.input.data,
        values=snakemake.params.values,
        start=snakemake.input.start,
        start_mask=snakemake.input.start_mask or None,
        state=snakemake.params.state,
        model=snakemake.output.model,
        mask=snakemake.output.mask,
        history=snakemake.output.history,
        result=snakemake.output.result,
    )
