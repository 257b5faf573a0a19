rule comparison:
    input:
        runs=f"{OUT}/runs.csv",
        shares=rules.claims.output.shares,
        cells=f"{workflow.basedir}/config/reported.csv",
        hyperparameters=f"{workflow.basedir}/config/reported_hyperparameters.csv",
        facts=f"{workflow.basedir}/config/reported.yaml",
    output:
        csv=f"{OUT}/comparison.csv",
        shares=f"{OUT}/comparison_shares.csv",
        markdown=report(
            f"{OUT}/comparison.md",
            caption="../report/comparison.rst",
            category="Comparison with the paper",
        ),
        pdf=f"{OUT}/comparison.pdf",
        png=report(
            f"{OUT}/comparison.png",
            caption="../report/comparison.rst",
            category="Comparison with the paper",
        ),
    log:
        f"{LOGS}/comparison.log",
    conda:
        "../../envs/environment.yaml"
    params:
        compared=selection.compared(STUDY),
    message:
        "Compare the results with the paper's"
    script:
        "../scripts/comparison.py"
