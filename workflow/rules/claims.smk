rule claims:
    input:
        runs=f"{OUT}/runs.csv",
        curves=f"{OUT}/connectivity.csv",
    output:
        csv=f"{OUT}/claims.csv",
        shares=f"{OUT}/shares.csv",
        lengths=f"{OUT}/lengths.csv",
        longer=f"{OUT}/claims_by_length.csv",
        shares_longer=f"{OUT}/shares_by_length.csv",
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
        "Test the claims"
    script:
        "../scripts/claims.py"


# Asked for by its name: what a study of more pairs than this one, a pilot, can decide.
rule power:
    input:
        runs=f"{OUT}/runs.csv",
        curves=f"{OUT}/connectivity.csv",
    output:
        csv=f"{OUT}/power.csv",
        markdown=f"{OUT}/power.md",
    log:
        f"{LOGS}/power.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        version=selection.VERSION["claims"],
        margin=STUDY.config["claims"]["margin"],
    message:
        "Compute what more pairs can decide"
    script:
        "../scripts/power.py"
