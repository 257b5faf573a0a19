# What a study will cost, and the measured speeds from which that follows.
rule forecast:
    input:
        shipped=THROUGHPUT[0],
        measured=branch(exists(THROUGHPUT[1]), then=THROUGHPUT[1]),
    output:
        csv=f"{OUT}/forecast.csv",
        markdown=report(
            f"{OUT}/forecast.md",
            caption="../report/forecast.rst",
            category="Cost",
        ),
    log:
        f"{LOGS}/forecast.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        runs=lambda wildcards: STUDY.fingerprint(),
        version=selection.VERSION["forecast"],
    message:
        "Forecast the cost of study {STUDY.name}"
    script:
        "../scripts/forecast.py"


rule throughput:
    output:
        update(THROUGHPUT[1]),
    log:
        f"{LOGS}/throughput.log",
    conda:
        "../../envs/environment.yaml"
    params:
        runs=lambda wildcards: STUDY.fingerprint(),
    message:
        "Measure the study's networks on the device at hand"
    script:
        "../scripts/throughput.py"
