TABLES = STUDY.config["artefacts"]["tables"]


rule all_tables:
    input:
        collect(f"{OUT}/tables/{{table}}.{{format}}", table=TABLES, format=["csv", "md", "tex"]),
    localrule: True


rule table:
    input:
        unpack(sources("tables")),
    output:
        csv=f"{OUT}/tables/{{table}}.csv",
        markdown=report(
            f"{OUT}/tables/{{table}}.md",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        latex=f"{OUT}/tables/{{table}}.tex",
    log:
        f"{LOGS}/tables/{{table}}.log",
    wildcard_constraints:
        table=any_of(TABLES),
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        about=lambda wildcards: captions.about(STUDY, "tables", wildcards.table),
        shown=lambda wildcards: selection.artefact(STUDY, "tables", wildcards.table),
    message:
        "Write {wildcards.table}"
    script:
        "../scripts/table.py"
