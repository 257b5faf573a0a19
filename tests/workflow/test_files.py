"""What is read and written: no pickle anywhere, and nothing left over."""

import ast
import re

from conftest import ROOT
from maskalign.checkpoint import load_tensors

PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# Functions that read or write pickles, and the argument that lets numpy do so.
UNPICKLING = re.compile(r"torch\.(load|save)\(|(read|to)_pickle\(|allow_pickle|weights_only")
KINDS = {".safetensors", ".json", ".csv", ".md", ".tex", ".pdf", ".png", ".html", ".dot", ".log"}


def test_no_module_of_the_project_pickles():
    for file in [*(ROOT / "workflow").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]:
        text = file.read_text(encoding="utf-8")
        imported = {
            (name.name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in node.names
        }
        assert not imported & PICKLES, file
        assert not UNPICKLING.search(text), file


def test_no_result_is_a_pickle_or_half_a_file(tiny):
    files = [f for f in (tiny / "results").rglob("*") if f.is_file()]
    files = [f for f in files if f.name != ".snakemake_timestamp"]  # Snakemake's, in a directory()
    assert {f.suffix for f in files} <= KINDS
    for file in files:
        assert not file.name.startswith("."), f"{file} was left over"
        if file.suffix == ".safetensors":
            load_tensors(file)  # a checksum tells that it is one
            continue
        head = file.read_bytes()[:2]
        assert head[:1] != b"\x80" and head != b"PK", f"{file} is a pickle or an archive"
    assert not list((tiny / "results/tiny/state").rglob("*.safetensors"))
