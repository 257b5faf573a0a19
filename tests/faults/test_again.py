"""The same study made once more has the same bits, whatever the number of cores."""

import json
import shutil

from running import copy_workflow, run_tiny

# Runs of every stage, and all that is made of them, made once more.
AGAIN = ["digits/vgg11-x1", "digits/resnet20-x1/match/weights"]
AGAIN += [f"digits/resnet20-x1/{stage}" for stage in ("imp_barrier", "landscape", "diversity")]
AGAIN += [f"digits/resnet20-x1/{stage}" for stage in ("permuted_fan", "diagnosis")]


def test_the_same_study_again_has_the_same_bits(tiny, tmp_path):
    """Of every rule; only records, and the page that shows them, say when and where a run was."""
    again = copy_workflow(tmp_path)
    shutil.copytree(tiny / ".snakemake", again / ".snakemake", symlinks=True)
    shutil.copytree(tiny / "results", again / "results", copy_function=shutil.copy2)
    gone = [again / "results/tiny/runs/paper" / folder for folder in AGAIN]
    for place in gone:
        assert place.exists()
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    run_tiny(again, cores=1)
    names = sorted(f.relative_to(tiny) for f in (tiny / "results/tiny").rglob("*") if f.is_file())
    names = [n for n in names if "logs" not in n.parts and n.name != "report.html"]
    assert len(names) > 100
    for name in names:
        if name.suffix == ".json" and name.name == "result.json":
            first, second = (json.loads((f / name).read_text()) for f in (tiny, again))
            assert first | {"provenance": 0} == second | {"provenance": 0}, name
        else:
            assert (tiny / name).read_bytes() == (again / name).read_bytes(), name
