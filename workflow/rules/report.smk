# One page of the whole study, and the rules behind it as Snakemake draws them.
# The template of a study's page, and the texts of the workflow that the page shows.
PAGE = [f"{workflow.basedir}/workflow/report/page.{kind}" for kind in ("html", "css", "js")]
TEXTS = [
    str(file)
    for folder, kind in (("rules", "smk"), ("scripts", "py"))
    for file in sorted(Path(workflow.basedir, "workflow", folder).glob(f"*.{kind}"))
]


rule report:
    input:
        tables=rules.all_tables.input,
        figures=rules.all_figures.input,
        results=[rules.runs.output.runs, rules.runs.output.curves],
        claims=rules.claims.output,
        comparison=rules.comparison.output,
        reported=[
            rules.comparison.input.cells,
            rules.comparison.input.hyperparameters,
            rules.comparison.input.facts,
        ],
        forecast=rules.forecast.output.csv,
        rulegraph=f"{OUT}/rulegraph.dot",
        records=rules.runs.input.runs
        + [f"{RUNS}/{path}/result.json" for path in STUDY.paths("landscape")],
        histories=[
            f"{RUNS}/{path}/history.csv"
            for path in STUDY.paths("dense", "imp_round", "imp", "sparse")
        ],
        snakefile=f"{workflow.basedir}/Snakefile",
        template=PAGE,
        texts=TEXTS,
    output:
        f"{OUT}/report.html",
    log:
        f"{LOGS}/report.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        config=values_hash(STUDY.config),
        version=selection.VERSION["report"],
    message:
        "Build the page of study {STUDY.name}"
    script:
        "../scripts/report.py"


rule rulegraph:
    input:
        snakefile=f"{workflow.basedir}/Snakefile",
        texts=TEXTS,
    output:
        f"{OUT}/rulegraph.dot",
    log:
        f"{LOGS}/rulegraph.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        config=values_hash(STUDY.config),
    message:
        "Draw the rules of study {STUDY.name}"
    script:
        "../scripts/rulegraph.py"
