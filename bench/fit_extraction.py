"""Learn the weights of extraction from annotated pages, and say how well they hold on sites they have not seen.

    python bench/fit_extraction.py --corpus ../shared/corpus            figures, fitted and cross-validated
    python bench/fit_extraction.py --corpus ../shared/corpus --write    and write pipeline/weights.toml

Two logistic regressions: one over the texts of a page, one over its pictures. A text is labelled by the segments that
people marked on extraction-dev, and, with less weight, by what Readability takes on the articles; a picture by the
readers of extraction-dev-images. Folds are split by site, so that no page of a site is judged by weights learnt on it.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scoring

from pipeline import dom
from pipeline.captions import attach_captions
from pipeline.content import Wanted, Weights, choose, find_candidates, spread_to_captions
from pipeline.features import FEATURES, Floats, Measured, measure
from pipeline.marks import find_marks
from pipeline.metadata import find_base, read_metadata
from pipeline.picture_features import PICTURE_FEATURES, announced_pictures, measure_pictures
from pipeline.pieces import Reading
from pipeline.reading import read_page
from schemas.document import Document

FOLDS = 5
ARTICLE_WEIGHT = 0.1
"""Weight of a text of 200 characters that Readability judged; one that a person judged has 1."""
TEXT_PENALTY, PICTURE_PENALTY = 10.0, 20.0
"""Half the squared size of the standardised weights costs this much (L2)."""
PRIORS = {
    "named_in_class": -3.0,
    "named_in_url": -2.0,
    "ad": -4.0,
    "subscribe": -2.0,
    "nav": -3.0,
    "share": -3.0,
    "comment": -2.0,
    "footer": -3.0,
    "tiny": -3.0,
}
"""What a weight is before any page is seen, because the annotated pages show little of it."""
MIN_DEVIATION = 0.3
"""Rare features are not blown up when features are standardised: their deviation counts as at least this."""
TEXT_THRESHOLD, PICTURE_THRESHOLD = 0.55, 0.33
WEIGHTS_FILE = Path(__file__).parents[1] / "pipeline" / "weights.toml"


@dataclass(slots=True)
class Prepared:
    """A labelled page, read and measured; labels are 1, 0, or NaN where nobody judged a piece."""

    labelled: scoring.LabelledPage
    tree: dom.Tree
    reading: Reading
    wanted: Wanted
    measured: Measured
    labels: Floats
    sizes: Floats
    chances: Floats


def prepare(labelled: scoring.LabelledPage) -> Prepared:
    """Read and measure a page."""
    page = labelled.page
    deadline = time.monotonic() + 3_600
    tree = dom.parse_html(dom.to_utf8(page.html, page.charset), 1 << 30, 1 << 30, deadline)
    assert not isinstance(tree, str), f"{page.url}: {tree}"
    reading, marks = read_page(tree, deadline), find_marks(tree)
    base = find_base(tree, marks, page.url)
    title = read_metadata(tree, marks, base, page.url, page.fetched).title
    labels = label_segments(labelled, reading) if labelled.text is None else label_article(labelled.text, reading)
    for position, piece in enumerate(reading.pieces):
        if reading.frames[piece.frame].caption or not piece.text:
            labels[position] = math.nan
    sizes = np.array([len(piece.text) for piece in reading.pieces], dtype=np.float64)
    wanted = Wanted(base, 1_024, title, announced_pictures(marks))
    measured = measure(tree, reading, title)
    return Prepared(labelled, tree, reading, wanted, measured, labels, sizes, np.zeros(len(reading.pieces)))


# --- labels ----------------------------------------------------------------------------------------------------------


def label_segments(labelled: scoring.LabelledPage, reading: Reading) -> Floats:
    """Label the texts that a marked segment covers by half, or that hold half of it."""
    texts = [scoring.fold(piece.text) for piece in reading.pieces]
    starts, joined = [], ""
    for text in texts:
        joined += " " if text and joined else ""
        starts.append(len(joined))
        joined += text
    labels = np.full(len(texts), math.nan)
    for segments, label in ((labelled.wanted, 1.0), (labelled.unwanted, 0.0)):
        for segment in map(scoring.fold, segments):
            start = joined.find(segment)
            position = max(0, bisect_right(starts, start) - 1)
            while start >= 0 and position < len(texts) and starts[position] < start + len(segment):
                end = starts[position] + len(texts[position])
                shared = min(start + len(segment), end) - max(start, starts[position])
                covered = shared > 0 and 2 * shared >= min(len(texts[position]), len(segment))
                if covered and math.isnan(labels[position]):
                    labels[position] = label
                position += 1
    return labels


def label_article(expected: str, reading: Reading) -> Floats:
    """Label texts by whether Readability's text of the page holds them; it leaves out titles, so these stay open."""
    labels = np.full(len(reading.pieces), math.nan)
    shingles = scoring.shingles(expected)
    if not shingles:
        return labels
    known = " ".join(("", *re.findall(r"\w+", expected.lower()), ""))
    for position, piece in enumerate(reading.pieces):
        words = re.findall(r"\w+", piece.text.lower())
        if len(words) >= 4:
            own = scoring.shingles(piece.text)
            labels[position] = sum(count for one, count in own.items() if one in shingles) >= own.total() / 2
        elif words:
            labels[position] = " ".join(("", *words, "")) in known
        if reading.frames[piece.frame].tag == "h1" and labels[position] == 0:
            labels[position] = math.nan
    return labels


# --- logistic regression ---------------------------------------------------------------------------------------------


def fit(
    names: Sequence[str], features: Floats, labels: Floats, weights: Floats, penalty: float, threshold: float
) -> Weights:
    """Fit a logistic regression by Newton's method, with an L2 penalty on what standardised weights depart from."""
    scale = np.maximum(features.std(axis=0), MIN_DEVIATION)
    rows = np.hstack([features / scale, np.ones((len(features), 1))])
    ridge = np.full(rows.shape[1], penalty)
    ridge[-1] = 1e-9
    known = [PRIORS.get(name.removeprefix("near_").removeprefix("far_"), 0.0) for name in names]
    prior = np.append(np.array(known) * scale, 0.0)

    def loss(solution: Floats) -> float:
        odds = rows @ solution
        departure = solution - prior
        return float(weights @ (np.logaddexp(0, odds) - labels * odds) + ridge @ (departure * departure) / 2)

    solution = prior.copy()
    for _ in range(100):
        chances = 1 / (1 + np.exp(-np.clip(rows @ solution, -30, 30)))
        gradient = rows.T @ (weights * (chances - labels)) + ridge * (solution - prior)
        curvature = (rows * (weights * chances * (1 - chances))[:, None]).T @ rows + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        while loss(solution - step) > loss(solution) and np.abs(step).max() > 1e-9:
            step /= 2
        solution -= step
        if np.abs(step).max() < 1e-8:
            break
    return Weights(solution[:-1] / scale, float(solution[-1]), threshold)


def fit_texts(pages: Iterable[Prepared]) -> Weights:
    """Learn the weights of texts."""
    known = [(page, np.isfinite(page.labels)) for page in pages]
    weights = [
        np.ones(mask.sum()) if page.labelled.text is None else ARTICLE_WEIGHT * np.clip(page.sizes[mask] / 200, 0.1, 2)
        for page, mask in known
    ]
    features = np.vstack([page.measured.matrix[mask] for page, mask in known])
    labels = np.concatenate([page.labels[mask] for page, mask in known])
    return fit(FEATURES, features, labels, np.concatenate(weights), TEXT_PENALTY, TEXT_THRESHOLD)


def fit_pictures(pages: Iterable[Prepared]) -> Weights:
    """Learn the weights of pictures from those that people judged, given the chances of the texts around them."""
    rows, labels = [], []
    for page in pages:
        judged = page.labelled.pictures
        candidates = find_candidates(page.tree, page.reading, page.wanted) if judged else []
        if not judged or not candidates:
            continue
        matrix = measure_pictures(
            page.tree, page.reading, page.measured, page.chances, candidates, page.wanted.announced
        )
        content = frozenset[str]().union(*(picture.keys for picture in judged.content))
        for row, candidate in zip(matrix, candidates, strict=True):
            key = scoring.picture_key(candidate.image.url)
            if key in content or key not in judged.unsure:
                rows.append(row)
                labels.append(float(key in content))
    return fit(
        PICTURE_FEATURES, np.array(rows), np.array(labels), np.ones(len(rows)), PICTURE_PENALTY, PICTURE_THRESHOLD
    )


# --- the figures -----------------------------------------------------------------------------------------------------


def score(pages: Sequence[Prepared], weights_of: Callable[[Prepared], tuple[Weights, Weights]]) -> scoring.Scores:
    """Score the documents that weights make of the pages."""
    extracted = []
    for page in pages:
        items = attach_captions(choose(page.tree, page.reading, page.wanted, weights_of(page)))
        source = page.labelled.page
        extracted.append(scoring.simplify(Document(source.url, "", "", items, source.origin)))
    return scoring.score_extracted([page.labelled for page in pages], extracted)


def cross_validate(pages: Sequence[Prepared]) -> dict[int, tuple[Weights, Weights]]:
    """Learn the weights of each fold from the other folds; leave in each page the chances it gets unseen."""
    parts = scoring.split_folds([page.labelled for page in pages], FOLDS)
    fold_of = {id(labelled): number for number, part in enumerate(parts) for labelled in part}
    numbers = [fold_of[id(page.labelled)] for page in pages]
    texts = []
    for fold in range(FOLDS):
        texts.append(fit_texts(page for page, number in zip(pages, numbers, strict=True) if number != fold))
        for page, number in zip(pages, numbers, strict=True):
            if number == fold:
                page.chances = spread_to_captions(page.reading, texts[fold].chances(page.measured.matrix))
    pictures = [
        fit_pictures(page for page, number in zip(pages, numbers, strict=True) if number != fold)
        for fold in range(FOLDS)
    ]
    return {id(page): (texts[number], pictures[number]) for page, number in zip(pages, numbers, strict=True)}


def score_unseen(pages: Sequence[Prepared]) -> scoring.Scores:
    """Score each page by the weights that were learnt without its site."""
    folds = cross_validate(pages)
    return score(pages, lambda page: folds[id(page)])


def to_toml(weights: Weights, names: Sequence[str], title: str) -> str:
    """Write weights as a table, the heaviest feature first."""
    rows = [("threshold", weights.threshold), ("bias", round(weights.bias, 3))]
    rows += sorted(((name, round(float(value), 3)) for name, value in zip(names, weights.features, strict=True)),
                   key=lambda row: (-abs(row[1]), row[0]))  # fmt: skip
    return f"[{title}]\n" + "".join(f"{name} = {value}\n" for name, value in rows)


def main() -> None:
    """Fit, score, and write the weights if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--write", action="store_true", help="write pipeline/weights.toml")
    options = parser.parse_args()
    pages = [prepare(page) for page in (*scoring.read_dev(options.corpus), *scoring.read_articles(options.corpus))]
    unseen = score_unseen(pages)
    weights = fit_texts(pages), fit_pictures(pages)
    for name, figures in (("fitted", score(pages, lambda page: weights)), ("unseen sites", unseen)):
        print(f"{name:16}", {key: value and round(value, 4) for key, value in figures.figures().items()})
    if options.write:
        tables = (to_toml(weights[0], FEATURES, "text"), to_toml(weights[1], PICTURE_FEATURES, "picture"))
        note = "# What each feature adds to the log odds of being content; learnt by bench/fit_extraction.py.\n\n"
        WEIGHTS_FILE.write_text(note + "\n".join(tables))


if __name__ == "__main__":
    main()
