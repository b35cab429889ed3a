"""Settings for tests whose pages are made up: texts of any kind, length and language are kept."""

from pipeline.quality import OFF

ANY_TEXT = ["filters.language.languages=[]", *(f"{name}=0" for name in OFF)]
ANY_PAGES = [
    *ANY_TEXT,
    *(f"duplicates.{name}=0" for name in ("near.min_jaccard", "min_images", "min_pages")),
]
"""The same for pages that say all the same."""


def options(settings):
    """Write settings as a command takes them."""
    return [word for setting in settings for word in ("--set", setting)]
