"""Test the paper's claims on the results of a study."""

from maskalign.job import job

with job(snakemake):
    from maskalign import files, selection, study, verdicts

    config = study.load(snakemake.config)
    table = verdicts.judge(config, selection.read_rows(snakemake.input.runs))
    files.write_text(snakemake.output.csv, table.to_csv(index=False))
    files.write_text(snakemake.output.markdown, verdicts.markdown(config, table))
