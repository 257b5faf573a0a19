"""Compute from a pilot study what more pairs can decide, and show it."""

from maskalign.job import job

with job(snakemake) as say:
    from maskalign import files, power, selection, study

    config = study.load(snakemake.config)
    runs = selection.read_rows(snakemake.input.runs)
    table = power.plan(config, runs)
    page = power.markdown(config, table, runs)
    files.write_text(snakemake.output.csv, table.to_csv(index=False))
    files.write_text(snakemake.output.markdown, page)
    say(page)
