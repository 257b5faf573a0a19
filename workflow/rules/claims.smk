rule claims:
    input:
        runs=f"{OUT}/runs.csv",
    output:
        csv=f"{OUT}/claims.csv",
        markdown=report(
            f"{OUT}/claims.md",
            caption="../report/claims.rst",
            category="Claims",
        ),
    log:
        f"{LOGS}/claims.log",
    conda:
        "../../envs/environment.yaml"
    params:
        version=selection.VERSION["claims"],
        margin=STUDY.config["claims"]["margin"],
    message:
        "Test the paper's claims"
    script:
        "../scripts/claims.py"
