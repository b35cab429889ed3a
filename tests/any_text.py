"""Settings for tests whose pages are made up: texts of any kind, length and language are kept."""

from pipeline.quality import OFF

ANY_TEXT = ["filters.language.languages=[]", *(f"{name}=0" for name in OFF)]
ANY_PICTURES = ["filters.pages.max_pages=0", "filters.pages.same_image_bits=-1"]
"""Settings for tests whose pages show the same pictures."""
ANY_PAGES = [
    *ANY_TEXT,
    *ANY_PICTURES,
    *(f"duplicates.{name}=0" for name in ("near.min_jaccard", "min_images", "min_pages")),
]
"""The same for pages that say and show all the same."""


def options(settings):
    """Write settings as a command takes them."""
    return [word for setting in settings for word in ("--set", setting)]
