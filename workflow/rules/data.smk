rule data:
    output:
        f"{OUT}/data/{{dataset}}.safetensors",
    log:
        f"{LOGS}/data/{{dataset}}.log",
    conda:
        "../../envs/environment.yaml"
    params:
        values=lambda wildcards: STUDY.data(wildcards.dataset),
    localrule: True  # a compute node may have no internet
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
        values=lambda wildcards: STUDY.data(wildcards.dataset),
    localrule: True
    message:
        "Write {wildcards.dataset} as an image folder"
    script:
        "../scripts/data.py"
