"""Floors of extraction on the development pages: a change that loses text, pictures or captions fails here."""

from pathlib import Path

import pytest
from scoring import FILES, corpus_sha256, read_articles, read_dev, score

from pipeline.extract import ExtractConfig, extract_document

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
CORPUS_SHA256 = "ccb51bf398f3f7fe9e4530569d93db2e198ca2fea7d919eb2445395e9c4343e3"
"""Of the pages and annotations (`scoring.FILES`) on which the floors were measured."""

FLOORS = {
    "segments F1": 0.928,
    "shingles F1": 0.951,
    "pictures recall": 0.968,
    "pictures precision": 0.911,
    "article pictures recall": 0.743,
    "article pictures precision": 0.67,
    "captions": 0.93,
}


@pytest.fixture(scope="module")
def figures():
    """Score the extractor with its default configuration on both sets of pages."""
    if missing := [name for name in FILES if not (CORPUS / name).exists()]:
        pytest.skip(f"the corpus of labelled pages is not beside the checkout ({missing[0]})")
    found = corpus_sha256(CORPUS)
    if found != CORPUS_SHA256:
        pytest.fail(f"the pages or annotations of {CORPUS} have changed (now {found}): measure the floors anew")
    pages = read_dev(CORPUS) + read_articles(CORPUS)
    return score(pages, lambda page: extract_document(page, ExtractConfig())).figures()


@pytest.mark.parametrize("name", FLOORS)
def test_extraction_holds_its_floors(figures, name):
    assert figures[name] >= FLOORS[name]
