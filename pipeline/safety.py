"""A dataset's settings → the steps of safety and rights that did not run, in plain words.

The settings are those of a manifest, as nested dictionaries: a dataset of a version that had no such step ran none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.pair_rules import NONE

Config = Mapping[str, Any]
OFF = {
    "rights.robots": "robots.txt was not honoured (rights.robots)",
    "rights.preferences": "AI preferences, Content-Usage and Content-Signal, were not honoured (rights.preferences)",
    "rights.tags": "X-Robots-Tag headers and robots meta elements were not honoured (rights.tags)",
    "rights.tdm": "TDMRep reservations were not honoured (rights.tdm)",
    "rights.opt_out": "no opt-out list was given (rights.opt_out)",
    "filters.evaluation.sets": "no evaluation set was kept out (filters.evaluation.sets)",
    "scores.models": "no image classifier ran: pictures were not judged by what they show (scores.models)",
    "privacy.mask": "personal data was not masked: mail addresses, phone numbers and the like stand as on the pages "
    "(privacy.mask)",
}
"""What is said where a setting is off, empty or unknown to the dataset."""
NO_PAIR_MODEL = "no image-text model ran: nothing compared pictures with the texts of their pairs (scores.pair_models)"
NO_FLAGGED = "flagged words were not judged (filters.texts.page.max_flagged_words)"
SHORT_LIST = "no list of flagged words was given: our own short one was used (filters.texts.flagged_words)"


def setting(config: Config, name: str) -> Any:
    """Give a setting by its dotted name; `None` where the dataset has none of that name."""
    found: Any = config
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def steps_not_run(config: Config) -> list[str]:
    """Say which steps did not run, a line each, with the setting that turns it on."""
    judged = any(setting(config, f"filters.texts.{part}.max_flagged_words") for part in ("page", "paragraph"))
    lines = [line for name, line in OFF.items() if not setting(config, name)]
    if setting(config, "pairs.preset") not in (None, NONE) and not setting(config, "scores.pair_models"):
        lines.append(NO_PAIR_MODEL)
    if not judged:
        lines.append(NO_FLAGGED)
    elif not setting(config, "filters.texts.flagged_words"):
        lines.append(SHORT_LIST)
    return lines
