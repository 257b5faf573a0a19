"""Draw one figure, and write its numbers and its caption beside it."""

from maskalign.job import job

with job(snakemake.log[0], snakemake.threads):
    from maskalign import figures, selection, study

    config, name = study.load(snakemake.config), snakemake.wildcards.figure
    found = {
        role: [selection.read_rows(file) for file in snakemake.input.get(role, [])]
        for role in ("runs", "curves", "grids")
    }
    entry = config.config["artefacts"]["figures"][name]
    paths = selection.landscapes(config, entry) if found["grids"] else []
    sources = figures.Sources(
        runs=next(iter(found["runs"]), None),
        curves=next(iter(found["curves"]), None),
        grids=dict(zip(paths, found["grids"], strict=True)),
    )
    figures.write(
        figures.build(config, name, sources),
        name,
        pdf=snakemake.output.pdf,
        png=snakemake.output.png,
        csv=snakemake.output.csv,
        md=snakemake.output.caption,
    )
