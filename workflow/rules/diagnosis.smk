rule diagnosis:
    input:
        data=data_of,
        a=f"{MODEL}/dense/init-{{mask_seed}}/model.safetensors",
        b=f"{MODEL}/dense/init-{{init_seed}}/model.safetensors",
        permutation=parents("diagnosis", "match", "permutation.safetensors"),
        masks=parents("diagnosis", "masks", "mask.safetensors"),
        own=parents("diagnosis", "own", "mask.safetensors"),
    output:
        result=f"{RUNS}/{PATHS['diagnosis']}/result.json",
    log:
        f"{LOGS}/{PATHS['diagnosis']}.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        runtime=REQUESTS.minutes("diagnosis"),
        mem_mb=REQUESTS.memory("diagnosis"),
    params:
        values=STUDY.values("diagnosis"),
    message:
        "Compare masks for {wildcards.init_seed} made from {wildcards.mask_seed} with its own, {wildcards.model} x{wildcards.width} on {wildcards.dataset}"
    script:
        "../scripts/diagnosis.py"
