"""Test the paper's claims on the results of a study, and compute the share of the gap closed."""

from maskalign.job import job

with job(snakemake):
    from maskalign import claims_page, files, gap, selection, study, verdicts
    from maskalign.units import Results

    config = study.load(snakemake.config)
    given, made = snakemake.input, snakemake.output
    sources = [selection.read_rows(file) for file in (given.runs, given.curves)]
    results = Results(config, *sources)
    table, shares, left = verdicts.judge(config, results), gap.shares(results), gap.left(results)
    longer = verdicts.judge_longer(config, results)
    files.write_text(made.csv, table.to_csv(index=False))
    files.write_text(made.shares, shares.to_csv(index=False))
    files.write_text(made.lengths, left.to_csv(index=False))
    files.write_text(made.longer, longer.to_csv(index=False))
    shares_longer = gap.shares_longer(results)
    files.write_text(made.shares_longer, shares_longer.to_csv(index=False))
    page = claims_page.markdown(config, table, longer, shares, shares_longer, left, sources)
    files.write_text(made.markdown, page)
