rule interpolation:
    input:
        data=data_of,
        a=f"{MODEL}/dense/init-{{mask_seed}}/model.safetensors",
        b=f"{MODEL}/dense/init-{{init_seed}}/model.safetensors",
        permutation=parents("interpolation", "match", "permutation.safetensors"),
    output:
        curve=f"{RUNS}/{PATHS['interpolation']}/curve.csv",
        result=f"{RUNS}/{PATHS['interpolation']}/result.json",
    log:
        f"{LOGS}/{PATHS['interpolation']}.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        runtime=REQUESTS.minutes("interpolation"),
        mem_mb=REQUESTS.memory("interpolation"),
    params:
        values=STUDY.values("interpolation"),
    message:
        "Interpolate {wildcards.mask_seed} to {wildcards.init_seed}, {wildcards.model} x{wildcards.width} on {wildcards.dataset}"
    script:
        "../scripts/interpolation.py"


rule imp_barrier:
    input:
        data=data_of,
        start=f"{MODEL}/dense/init-{{mask_seed}}/model.safetensors",
        rounds=parents("imp_barrier", "rounds", "model.safetensors"),
        masks=parents("imp_barrier", "rounds", "mask.safetensors"),
    output:
        curve=f"{RUNS}/{PATHS['imp_barrier']}/curve.csv",
        result=f"{RUNS}/{PATHS['imp_barrier']}/result.json",
    log:
        f"{LOGS}/{PATHS['imp_barrier']}.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        runtime=REQUESTS.minutes("imp_barrier"),
        mem_mb=REQUESTS.memory("imp_barrier"),
    params:
        values=STUDY.values("imp_barrier"),
    message:
        "Interpolate dense to IMP rounds, {wildcards.model} x{wildcards.width} on {wildcards.dataset}, seed {wildcards.mask_seed}"
    script:
        "../scripts/imp_barrier.py"


rule landscape:
    input:
        data=data_of,
        a=f"{MODEL}/dense/init-{{mask_seed}}/model.safetensors",
        lth=parents("landscape", "lth", "model.safetensors"),
        permuted=parents("landscape", "permuted", "model.safetensors"),
        permutation=parents("landscape", "match", "permutation.safetensors"),
    output:
        grid=f"{RUNS}/{PATHS['landscape']}/grid.csv",
        result=f"{RUNS}/{PATHS['landscape']}/result.json",
    log:
        f"{LOGS}/{PATHS['landscape']}.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        runtime=REQUESTS.minutes("landscape"),
        mem_mb=REQUESTS.memory("landscape"),
    params:
        values=STUDY.values("landscape"),
    message:
        "0-1 loss landscape of {wildcards.model} x{wildcards.width} on {wildcards.dataset}"
    script:
        "../scripts/landscape.py"
