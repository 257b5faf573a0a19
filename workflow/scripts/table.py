"""Write one table as CSV, Markdown and LaTeX."""

from maskalign.job import job

with job(snakemake):
    from maskalign import formats, results, study, tables

    config, name = study.load(snakemake.config), snakemake.wildcards.table
    runs = results.frame("runs", snakemake.input.get("runs", []), config)
    table = tables.build(config, name, runs)
    formats.write_csv(table, snakemake.output.csv)
    formats.write_markdown(table, snakemake.output.markdown)
    formats.write_latex(table, snakemake.output.latex)
