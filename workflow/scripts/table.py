"""Write one table as CSV, Markdown and LaTeX."""

from maskalign.job import job

with job(snakemake.log[0], snakemake.threads):
    from maskalign import formats, selection, study, tables

    runs = snakemake.input.get("runs", [])
    table = tables.build(
        study.load(snakemake.config),
        snakemake.wildcards.table,
        selection.read_rows(runs) if runs else None,
    )
    formats.write_csv(table, snakemake.output.csv)
    formats.write_markdown(table, snakemake.output.markdown)
    formats.write_latex(table, snakemake.output.latex)
