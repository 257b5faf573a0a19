rule imp_round:
    input:
        data=data_of,
        start=parents("imp_round", "before", "model.safetensors"),
        start_mask=parents("imp_round", "before_mask", "mask.safetensors"),
    output:
        model=f"{RUNS}/{PATHS['imp_round']}/model.safetensors",
        mask=f"{RUNS}/{PATHS['imp_round']}/mask.safetensors",
        history=f"{RUNS}/{PATHS['imp_round']}/history.csv",
        result=f"{RUNS}/{PATHS['imp_round']}/result.json",
    log:
        f"{LOGS}/{PATHS['imp_round']}.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        runtime=REQUESTS.minutes("imp_round"),
        mem_mb=REQUESTS.memory("imp_round"),
    params:
        values=STUDY.values("imp_round"),
        state=f"{STATE}/{PATHS['imp_round']}",
    message:
        "IMP round {wildcards.round} of {wildcards.model} x{wildcards.width} on {wildcards.dataset}, seed {wildcards.mask_seed}"
    script:
        "../scripts/imp.py"


# The shortened last round, which lands on a target sparsity.
use rule imp_round as imp with:
    input:
        data=data_of,
        start=parents("imp", "before", "model.safetensors"),
        start_mask=parents("imp", "before_mask", "mask.safetensors"),
    output:
        model=f"{RUNS}/{PATHS['imp']}/model.safetensors",
        mask=f"{RUNS}/{PATHS['imp']}/mask.safetensors",
        history=f"{RUNS}/{PATHS['imp']}/history.csv",
        result=f"{RUNS}/{PATHS['imp']}/result.json",
    log:
        f"{LOGS}/{PATHS['imp']}.log",
    resources:
        runtime=REQUESTS.minutes("imp"),
        mem_mb=REQUESTS.memory("imp"),
    params:
        values=STUDY.values("imp"),
        state=f"{STATE}/{PATHS['imp']}",
    message:
        "IMP to sparsity {wildcards.sparsity} of {wildcards.model} x{wildcards.width} on {wildcards.dataset}, seed {wildcards.mask_seed}"
