"""Compare a study's results with the paper's, cell by cell."""

from maskalign.job import job

with job(snakemake):
    from maskalign import (
        comparison,
        comparison_page,
        files,
        formats,
        reported,
        reported_gap,
        selection,
        study,
    )
    from maskalign.figures import comparison as figure
    from maskalign.figures import style

    config = study.load(snakemake.config)
    given, made = snakemake.input, snakemake.output
    paper = reported.read(given.cells, given.hyperparameters, given.facts)
    runs = selection.read_rows(given.runs)
    shares = selection.read_rows(given.shares)
    table = comparison.compare(config, runs, paper)
    files.write_text(made.csv, formats.csv_text(table))
    files.write_text(made.shares, reported_gap.shares(paper).to_csv(index=False))
    page = comparison_page.markdown(config, table, shares, paper, runs)
    files.write_text(made.markdown, page)
    style.save(figure.draw(config, table, paper), made.pdf, made.png)
