# maskalign: every table and figure of "Sparse Training from Random Initialization: Aligning Lottery
# Ticket Masks using Weight Symmetry" (ICML 2025). What is run is in config/<study>.yaml.
from snakemake.utils import min_version

min_version("9.0")

if not (config or workflow.configfiles):

    configfile: "config/demo.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/dense.smk"
include: "workflow/rules/prune.smk"
include: "workflow/rules/match.smk"
include: "workflow/rules/sparse.smk"
include: "workflow/rules/connectivity.smk"
include: "workflow/rules/diversity.smk"
include: "workflow/rules/diagnosis.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/comparison.smk"
include: "workflow/rules/forecast.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.all_tables.input,
        rules.all_figures.input,
        rules.claims.output,
        rules.comparison.output,
        rules.report.output,
    localrule: True


# After all rules, which say what can be asked for.
include: "workflow/rules/targets.smk"
