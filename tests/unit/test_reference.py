"""The page of a study's keys is that of the schema."""

from conftest import ROOT
from maskalign.reference import reference


def test_the_page_is_up_to_date():
    page = (ROOT / "config/README.md").read_text()
    assert page == reference(), "run `make reference`"


def test_every_key_of_the_demo_is_on_the_page(demo):
    page = reference()

    def visit(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in ("dense", "options"):
                    continue
                yield key
                yield from visit(inner)

    for part in ("datasets", "models", "training", "experiments"):
        for entry in demo[part].values():
            for key in visit(entry):
                assert f"{key}`" in page, key
