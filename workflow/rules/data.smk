rule data:
    output:
        f"{OUT}/data/{{dataset}}.safetensors",
    log:
        f"{LOGS}/data/{{dataset}}.log",
    localrule: True  # a compute node may have no internet
    conda:
        "../../envs/environment.yaml"
    params:
        values=lambda wildcards: STUDY.data(wildcards.dataset),
    message:
        "Prepare {wildcards.dataset}"
    script:
        "../scripts/data.py"


rule data_folder:
    output:
        directory(f"{OUT}/data/{{dataset}}"),
    log:
        f"{LOGS}/data/{{dataset}}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        values=lambda wildcards: STUDY.data(wildcards.dataset),
    message:
        "Write {wildcards.dataset} as an image folder"
    script:
        "../scripts/data.py"
