"""Build the page of a study."""

from pathlib import Path

from maskalign.job import job

with job(snakemake.log[0], snakemake.threads):
    from maskalign import checkpoint, report, study

    folder = Path(snakemake.output[0]).parent
    root = Path(snakemake.input.snakefile).parent
    page = report.build(study.load(snakemake.config), folder, root)
    checkpoint.write_text(snakemake.output[0], page)
