rule match:
    input:
        data=data_of,
        a=f"{MODEL}/dense/init-{{mask_seed}}/model.safetensors",
        b=f"{MODEL}/dense/init-{{init_seed}}/model.safetensors",
        b_checkpoints=f"{MODEL}/dense/init-{{init_seed}}/checkpoints",
        beside=parents("match", "beside", "permutation.safetensors"),
    output:
        permutation=f"{RUNS}/{PATHS['match']}/permutation.safetensors",
        result=f"{RUNS}/{PATHS['match']}/result.json",
    log:
        f"{LOGS}/{PATHS['match']}.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        runtime=REQUESTS.minutes("match"),
        mem_mb=REQUESTS.memory("match"),
    params:
        values=STUDY.values("match"),
    message:
        "Match {wildcards.model} x{wildcards.width} on {wildcards.dataset} by {wildcards.matching_method}: {wildcards.mask_seed} to {wildcards.init_seed} at epoch {wildcards.matching_epoch}"
    script:
        "../scripts/match.py"
