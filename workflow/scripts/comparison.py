"""Compare a study's results with the paper's, cell by cell."""

from maskalign.job import job

with job(snakemake):
    from maskalign import (
        checkpoint,
        comparison,
        comparison_page,
        formats,
        reported,
        selection,
        study,
    )
    from maskalign.figures import comparison as figure
    from maskalign.figures import style

    config = study.load(snakemake.config)
    files = snakemake.input
    paper = reported.read(files.cells, files.hyperparameters, files.facts)
    table = comparison.compare(config, selection.read_rows(files.runs), paper)
    checkpoint.write_text(snakemake.output.csv, formats.csv_text(table))
    page = comparison_page.markdown(config, table, paper)
    checkpoint.write_text(snakemake.output.markdown, page)
    with (
        checkpoint.atomic(snakemake.output.pdf) as pdf,
        checkpoint.atomic(snakemake.output.png) as png,
    ):
        style.save(figure.draw(config, table, paper), pdf, png)
