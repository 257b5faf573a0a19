"""Test the paper's claims on the results of a study."""

from maskalign.job import job

with job(snakemake):
    from maskalign import files, selection, study, verdicts

    config = study.load(snakemake.config)
    runs = selection.read_rows(snakemake.input.runs)
    table = verdicts.judge(config, runs)
    page = verdicts.markdown(config, table, runs)
    files.write_text(snakemake.output.csv, table.to_csv(index=False))
    files.write_text(snakemake.output.markdown, page)
