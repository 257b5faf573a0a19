"""Ask Snakemake for the graph of a study's rules."""

from maskalign.job import job

with job(snakemake.log[0], snakemake.threads):
    from maskalign import checkpoint
    from maskalign.report import rules

    dot = rules.ask(snakemake.input.snakefile, snakemake.config)
    checkpoint.write_text(snakemake.output[0], dot)
