"""Forecast the cost of the study, and show it."""

from maskalign.job import job

with job(snakemake) as say:
    from maskalign import cost, files, forecast, study

    config = study.load(snakemake.config)
    tables = [snakemake.input.shipped, snakemake.input.measured]
    throughput = cost.Throughput(table for table in tables if table)
    runs = forecast.forecast(config, throughput)
    page = forecast.page(config, runs, throughput)
    files.write_text(snakemake.output.csv, forecast.summary(runs).to_csv(index=False))
    files.write_text(snakemake.output.markdown, page)
    say(page)
