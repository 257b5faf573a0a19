"""Compute from a pilot study what more pairs can decide, and show it."""

from maskalign.job import job

with job(snakemake) as say:
    from maskalign import files, power, selection, study
    from maskalign.units import Results

    config = study.load(snakemake.config)
    given = snakemake.input
    sources = [selection.read_rows(file) for file in (given.runs, given.curves)]
    table = power.plan(config, Results(config, *sources))
    page = power.markdown(config, table, sources)
    files.write_text(snakemake.output.csv, table.to_csv(index=False))
    files.write_text(snakemake.output.markdown, page)
    say(page)
