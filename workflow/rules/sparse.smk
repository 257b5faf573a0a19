rule sparse:
    input:
        data=data_of,
        checkpoints=f"{MODEL}/dense/init-{{init_seed}}/checkpoints",
        imp_mask=parents("sparse", "mask", "mask.safetensors"),
        permutation=parents("sparse", "match", "permutation.safetensors"),
    output:
        model=f"{RUNS}/{PATHS['sparse']}/model.safetensors",
        mask=f"{RUNS}/{PATHS['sparse']}/mask.safetensors",
        history=f"{RUNS}/{PATHS['sparse']}/history.csv",
        result=f"{RUNS}/{PATHS['sparse']}/result.json",
    log:
        f"{LOGS}/{PATHS['sparse']}.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        runtime=REQUESTS.minutes("sparse"),
        mem_mb=REQUESTS.memory("sparse"),
    params:
        values=STUDY.values("sparse"),
        state=f"{STATE}/{PATHS['sparse']}",
    message:
        "Train {wildcards.method} at sparsity {wildcards.sparsity} from epoch {wildcards.rewind_epoch}, {wildcards.model} x{wildcards.width} on {wildcards.dataset}"
    script:
        "../scripts/sparse.py"
