FIGURES = STUDY.config["artefacts"]["figures"]


rule all_figures:
    input:
        collect(
            f"{OUT}/figures/{{figure}}.{{format}}",
            figure=FIGURES,
            format=["pdf", "png", "csv", "md"],
        ),
    localrule: True


rule figure:
    input:
        unpack(sources("figures")),
    output:
        pdf=f"{OUT}/figures/{{figure}}.pdf",
        png=report(
            f"{OUT}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        csv=f"{OUT}/figures/{{figure}}.csv",
        caption=f"{OUT}/figures/{{figure}}.md",
    log:
        f"{LOGS}/figures/{{figure}}.log",
    wildcard_constraints:
        figure=any_of(FIGURES),
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        about=lambda wildcards: captions.about(STUDY, "figures", wildcards.figure),
        shown=lambda wildcards: selection.artefact(STUDY, "figures", wildcards.figure),
    message:
        "Draw {wildcards.figure}"
    script:
        "../scripts/figure.py"
