rule data:
    output:
        f"{OUT}/data/{{dataset}}.safetensors",
    log:
        f"{LOGS}/data/{{dataset}}.log",
    wildcard_constraints:
        dataset=any_of(name for name, d in DATASETS.items() if d["source"] not in FOLDERS),
    localrule: True  # a compute node may have no internet
    conda:
        "../../envs/environment.yaml"
    params:
        values=lambda wildcards: STUDY.data(wildcards.dataset),
        version=versions.RESULT_VERSION["data"],
    message:
        "Prepare {wildcards.dataset}"
    script:
        "../scripts/data.py"


# Files stay where they are; jobs find them by this list.
use rule data as image_folder with:
    output:
        f"{OUT}/data/{{dataset}}.json",
    wildcard_constraints:
        dataset=any_of(name for name, d in DATASETS.items() if d["source"] in FOLDERS),
    message:
        "List the images of {wildcards.dataset}"
