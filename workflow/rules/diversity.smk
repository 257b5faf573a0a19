rule diversity:
    input:
        data=data_of,
        dense=parents("diversity", "dense", "model.safetensors"),
        imp=parents("diversity", "imp", "model.safetensors"),
        lth=parents("diversity", "lth", "model.safetensors"),
        permuted=parents("diversity", "permuted", "model.safetensors"),
        naive=parents("diversity", "naive", "model.safetensors"),
    output:
        result=f"{RUNS}/{PATHS['diversity']}/result.json",
    log:
        f"{LOGS}/{PATHS['diversity']}.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        runtime=REQUESTS.minutes("diversity"),
        mem_mb=REQUESTS.memory("diversity"),
    params:
        values=STUDY.values("diversity"),
    message:
        "Compare ensembles of {wildcards.model} x{wildcards.width} on {wildcards.dataset}"
    script:
        "../scripts/diversity.py"
