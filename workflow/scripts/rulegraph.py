"""Ask Snakemake for the graph of a study's rules."""

from maskalign.job import job

with job(snakemake):
    from maskalign import files
    from maskalign.report import rules

    dot = rules.ask(snakemake.input.snakefile, snakemake.config)
    files.write_text(snakemake.output[0], dot)
