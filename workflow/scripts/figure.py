"""Draw one figure, and write its numbers and its caption beside it."""

from maskalign.job import job

with job(snakemake):
    from maskalign import figures, results, study

    config, name = study.load(snakemake.config), snakemake.wildcards.figure
    sources = [
        results.frame(role, snakemake.input.get(role, []), config) for role in results.TABLES
    ]
    figures.write(
        figures.build(config, name, figures.Sources(*sources)),
        name,
        pdf=snakemake.output.pdf,
        png=snakemake.output.png,
        csv=snakemake.output.csv,
        md=snakemake.output.caption,
    )
