"""Forecast the cost of the study, and show it."""

from maskalign.job import job

with job(snakemake) as say:
    from maskalign import checkpoint, cost, forecast, study

    config = study.load(snakemake.config)
    files = [snakemake.input.shipped, snakemake.input.measured]
    throughput = cost.Throughput(file for file in files if file)
    runs = forecast.forecast(config, throughput)
    page = forecast.page(config, runs, throughput)
    checkpoint.write_text(snakemake.output.csv, forecast.summary(runs).to_csv(index=False))
    checkpoint.write_text(snakemake.output.markdown, page)
    say(page)
