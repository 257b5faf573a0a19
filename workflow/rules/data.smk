rule data:
    output:
        f"{OUT}/data/{{dataset}}.safetensors",
    log:
        f"{LOGS}/data/{{dataset}}.log",
    conda:
        "../../envs/environment.yaml"
    params:
        spec=lambda wildcards: STUDY.config["datasets"][wildcards.dataset],
    message:
        "Prepare {wildcards.dataset}"
    script:
        "../scripts/data.py"


rule data_folder:
    output:
        directory(f"{OUT}/data/{{dataset}}"),
    log:
        f"{LOGS}/data/{{dataset}}.log",
    conda:
        "../../envs/environment.yaml"
    params:
        spec=lambda wildcards: STUDY.config["datasets"][wildcards.dataset],
    message:
        "Write {wildcards.dataset} as an image folder"
    script:
        "../scripts/data.py"
