# One tidy row a number, and one row a point of a curve: all that tables and figures read.
rule runs:
    input:
        records=[
            f"{RUNS}/{path}/result.json"
            for path in STUDY.paths("dense", "imp_round", "imp", "match", "sparse")
            + STUDY.paths("interpolation", "imp_barrier", "diversity")
        ],
        curves=[f"{RUNS}/{path}/curve.csv" for path in STUDY.paths("interpolation", "imp_barrier")],
    output:
        runs=f"{OUT}/runs.csv",
        curves=f"{OUT}/connectivity.csv",
    log:
        f"{LOGS}/runs.log",
    benchmark:
        f"{BENCHMARKS}/runs.tsv"
    conda:
        "../../envs/environment.yaml"
    message:
        "Collect the results of all runs"
    script:
        "../scripts/runs.py"
