"""Build the page of a study."""

from pathlib import Path

from maskalign.job import job

with job(snakemake):
    from maskalign import files, report, study

    folder = Path(snakemake.output[0]).parent
    root = Path(snakemake.input.snakefile).parent
    page = report.build(study.load(snakemake.config), folder, root)
    files.write_text(snakemake.output[0], page)
