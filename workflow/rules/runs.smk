# One tidy row a number, a point of a curve, a point of a plane, of all runs of the study.
rule runs:
    input:
        runs=[
            f"{RUNS}/{path}/result.json"
            for path in STUDY.paths("dense", "imp_round", "imp", "match", "sparse")
            + STUDY.paths("interpolation", "imp_barrier", "diversity", "diagnosis")
        ],
        curves=[f"{RUNS}/{path}/curve.csv" for path in STUDY.paths("interpolation", "imp_barrier")],
        planes=[f"{RUNS}/{path}/grid.csv" for path in STUDY.paths("landscape")],
    output:
        runs=f"{OUT}/runs.csv",
        curves=f"{OUT}/connectivity.csv",
        planes=f"{OUT}/landscapes.csv",
    log:
        f"{LOGS}/runs.log",
    conda:
        "../../envs/environment.yaml"
    params:
        version=selection.VERSION["runs"],
    message:
        "Collect the results of all runs"
    script:
        "../scripts/runs.py"
