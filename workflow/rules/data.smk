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


# Files stay where they are; jobs find them by this list.
use rule data as image_folder with:
    output:
        f"{OUT}/data/{{dataset}}.json",
    message:
        "List the images of {wildcards.dataset}"
