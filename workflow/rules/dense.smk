rule dense:
    input:
        data=data_of,
    output:
        model=f"{RUNS}/{PATHS['dense']}/model.safetensors",
        checkpoints=directory(f"{RUNS}/{PATHS['dense']}/checkpoints"),
        history=f"{RUNS}/{PATHS['dense']}/history.csv",
        result=f"{RUNS}/{PATHS['dense']}/result.json",
    log:
        f"{LOGS}/{PATHS['dense']}.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        runtime=REQUESTS.minutes("dense"),
        mem_mb=REQUESTS.memory("dense"),
    params:
        values=STUDY.values("dense"),
        state=f"{STATE}/{PATHS['dense']}",
    message:
        "Train {wildcards.model} x{wildcards.width} on {wildcards.dataset}, init {wildcards.init_seed}"
    script:
        "../scripts/dense.py"
