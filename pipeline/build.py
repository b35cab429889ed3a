"""The jobs, one stage a line: this is the table of contents of `pipeline`.

    flamingo extract    lists of URLs → the web → archives; sources → documents, captures
                        documents → addresses, signatures, links, clusters, repeats → duplicates
                        documents × duplicates → references of the pages that stay
    flamingo fetch      references × captures → the web → ledger; references × captures × ledger → wanted → media
                        video references × captures → the web → ... → clips and cues
    flamingo assemble   media → pictures × models → scores; pictures × evaluation sets → nearest
                        references × media × scores × nearest → placements × documents that stay → samples → shards
                        documents → texts → candidates × media × scores × nearest → pairs → pair shards
                        video references × clips × cues → videos → video shards
    flamingo build      all three

Each stage is planned from what the stage before it wrote, cut into units, and run by the supervisor of `local` or
by the runner that the Beam options name. A unit's name hashes the settings, the inputs and the version that decide
its output: what is done stays done, and after a change of settings only what they touch is done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from pipeline.ask import ask_web
from pipeline.assemble import place_images, select_documents
from pipeline.clusters import BANDS, CLUSTER_STAGES, LINKS, link_bands, sign_documents
from pipeline.datasheet import write_datasheet
from pipeline.documents import extract_pages
from pipeline.duplicates import (
    ADDRESSES,
    ALIKE,
    BOILERPLATE,
    IMAGE_SETS,
    NEAR,
    OLDER,
    PARAGRAPHS,
    DuplicateConfig,
    settle_addresses,
    settle_repeats,
    write_addresses,
    write_repeats,
)
from pipeline.embed import NEAREST, embed_pictures, stamped_embedding
from pipeline.evaluation import stamped as stamped_sets
from pipeline.extract import ExtractConfig
from pipeline.fetch import locate_media, normalise_media
from pipeline.filters import FiltersConfig, PageRules
from pipeline.kinds import PAIR_KIND, VIDEO_KIND
from pipeline.lists import list_pages, settle_pages
from pipeline.manifest import remove_manifests, write_manifest
from pipeline.media import MediaConfig
from pipeline.minhash import NearConfig
from pipeline.optout import stamped
from pipeline.pair_rules import NONE, PairConfig
from pipeline.pair_score import CHOSEN, PAIR_SCORES, TO_SCORE, judge_pairs, plan_pair_shards, score_pairs
from pipeline.pairs import CANDIDATES, TEXTS, count_pictures, pair_images, write_texts
from pipeline.plan import Step, Totals, add_totals, by_any_rows, by_list, by_rows, by_shard, by_split, plan_units
from pipeline.politeness import FetchConfig
from pipeline.privacy import PrivacyConfig
from pipeline.refer import STAYING, refer_documents
from pipeline.repeats import SHOWN, TEMPLATES, settle_templates
from pipeline.rights import RightsConfig
from pipeline.score import (
    SCORES,
    ScoreConfig,
    for_pictures,
    score_pictures,
    stamped_models,
    stamped_pair_models,
)
from pipeline.shard import INTERLEAVED_KIND, ShardConfig, write_shard
from pipeline.sources import SourceConfig
from pipeline.stage import Execute, Job, Stage, fingerprint
from pipeline.stale import finished, remove_stale
from pipeline.stored_pictures import PICTURES, PICTURES_PER_UNIT, list_pictures
from pipeline.tables import (
    ASKED,
    CAPTURES,
    DOCUMENTS,
    HEADS,
    MEDIA,
    NEAR_MISSES,
    PAIRS,
    PLACEMENTS,
    REFERENCES,
    SAMPLES,
    VIDEO_REFERENCES,
    VIDEOS,
    WANTED,
)
from pipeline.timeline import FRAMES, VideoConfig
from pipeline.videos import CLIPS, CUES, VIDEO_WANTED, decode_videos, locate_videos, write_captioned
from pipeline.web import LISTED, ORIGINAL, PAGES, ledger_stamp
from pipeline.word_lists import stamp_flagged
from schemas import SCHEMA_VERSION
from schemas.asked import IMAGE, PAGE, VIDEO


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """The settings of a dataset; each table is documented beside the code that it steers."""

    schema: int = SCHEMA_VERSION
    """Version of the dataset's tables and shards."""
    source: SourceConfig = field(default_factory=SourceConfig)
    """What is read."""
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    """How pages become documents."""
    rights: RightsConfig = field(default_factory=RightsConfig)
    """What sites and people do not allow."""
    duplicates: DuplicateConfig = field(default_factory=DuplicateConfig)
    """Which pages and paragraphs say what others say."""
    fetch: FetchConfig = field(default_factory=FetchConfig)
    """How the web is asked for what the sources do not hold."""
    media: MediaConfig = field(default_factory=MediaConfig)
    """How images are checked and stored."""
    scores: ScoreConfig = field(default_factory=ScoreConfig)
    """Which models score the pictures and the pairs, and which scores are kept."""
    filters: FiltersConfig = field(default_factory=FiltersConfig)
    """Which images and pages are kept."""
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    """What of people's data is masked."""
    pairs: PairConfig = field(default_factory=PairConfig)
    """Whether and how pictures and their texts are written as pairs."""
    videos: VideoConfig = field(default_factory=VideoConfig)
    """Whether and how videos are cut into clips with their texts."""
    shards: ShardConfig = field(default_factory=ShardConfig)
    """How large shards are."""

    def __post_init__(self) -> None:
        if self.schema != SCHEMA_VERSION:
            raise ValueError(f"schema {self.schema}; this version of flamingo reads and writes schema {SCHEMA_VERSION}")


def writes_pairs(config: BuildConfig) -> bool:
    """Tell whether pairs are wanted."""
    return config.pairs.preset != NONE


def scores_pictures(config: BuildConfig) -> bool:
    """Tell whether pictures are scored."""
    return bool(config.scores.models)


def scores_pairs(config: BuildConfig) -> bool:
    """Tell whether pairs are scored."""
    return writes_pairs(config) and bool(config.scores.pair_models)


def writes_videos(config: BuildConfig) -> bool:
    """Tell whether videos are wanted."""
    return config.videos.keep != NONE


EXTRACT = (
    Step(Stage("list", (), (LISTED,), list_pages), lambda config: [], by_list),
    Step(
        Stage("settle", (LISTED, ASKED), (PAGES,), settle_pages),
        lambda config: [stamped(config.rights)],
        by_any_rows(LISTED.directory),
        ask=PAGE,
    ),
    Step(
        Stage("extract", (PAGES,), (DOCUMENTS, CAPTURES), extract_pages),
        lambda config: [replace(config.source, paths=()), config.extract, stamped(config.rights)],
        by_split(PAGE),
    ),
)
DEDUPLICATE = (
    Step(
        Stage("address", (HEADS,), (ADDRESSES,), write_addresses),
        lambda config: [],
        by_rows(DOCUMENTS.directory),
        wanted=lambda config: config.duplicates.same_address,
    ),
    Step(
        Stage("same_address", (ADDRESSES,), (OLDER,), settle_addresses),
        lambda config: [],
        by_any_rows(ADDRESSES.directory),
    ),
    Step(
        Stage("sign", (DOCUMENTS, OLDER), (BANDS,), sign_documents),
        lambda config: [replace(config.duplicates.near, min_jaccard=1)],
        by_rows(DOCUMENTS.directory),
        wanted=lambda config: config.duplicates.near.min_jaccard > 0,
    ),
    Step(
        Stage("link", (BANDS,), (LINKS[0], NEAR), link_bands),
        lambda config: [config.duplicates.near],
        by_any_rows(BANDS.directory),
    ),
    *(Step(stage, lambda config: [], by_any_rows(stage.reads[0].directory)) for stage in CLUSTER_STAGES),
    Step(
        Stage("repeat", (DOCUMENTS, OLDER, NEAR), (IMAGE_SETS, PARAGRAPHS), write_repeats),
        lambda config: [replace(config.duplicates, near=NearConfig())],
        by_rows(DOCUMENTS.directory),
        wanted=lambda config: config.duplicates.min_images + config.duplicates.min_pages > 0,
    ),
    Step(
        Stage("same_repeat", (IMAGE_SETS, PARAGRAPHS), (ALIKE, BOILERPLATE), settle_repeats),
        lambda config: [replace(DuplicateConfig(), min_pages=config.duplicates.min_pages)],
        by_any_rows(IMAGE_SETS.directory, PARAGRAPHS.directory),
    ),
    Step(
        Stage("refer", (DOCUMENTS, OLDER, NEAR, ALIKE), (STAYING, REFERENCES, VIDEO_REFERENCES), refer_documents),
        lambda config: [],
        by_rows(DOCUMENTS.directory),
    ),
)
FETCH = (
    Step(
        Stage("locate", (REFERENCES, CAPTURES, ASKED), (WANTED, MEDIA), locate_media),
        lambda config: [stamped(config.rights)],
        by_rows(REFERENCES.directory, CAPTURES.directory),
        ask=IMAGE,
    ),
    Step(
        Stage("normalise", (WANTED,), (MEDIA,), normalise_media),
        lambda config: [replace(config.source, paths=()), config.media],
        by_split(ORIGINAL),
    ),
    Step(
        Stage("locate_videos", (VIDEO_REFERENCES, CAPTURES, ASKED), (VIDEO_WANTED,), locate_videos),
        lambda config: [stamped(config.rights), replace(VideoConfig(), keep=FRAMES if writes_videos(config) else NONE)],
        by_rows(VIDEO_REFERENCES.directory, CAPTURES.directory),
        ask=VIDEO,
    ),
    Step(
        Stage("decode_videos", (VIDEO_WANTED,), (CLIPS, CUES), decode_videos),
        lambda config: [
            *(replace(config.source, paths=()), config.videos),
            replace(FetchConfig(), max_video_bytes=config.fetch.max_video_bytes),
            replace(MediaConfig(), jpeg_quality=config.media.jpeg_quality),
        ],
        by_split(VIDEO),
        wanted=writes_videos,
    ),
)
SCORE = (
    Step(
        Stage("list_pictures", (MEDIA,), (PICTURES,), list_pictures),
        lambda config: [],
        by_rows(MEDIA.directory),
        wanted=lambda config: scores_pictures(config) or bool(config.filters.evaluation.model),
    ),
    Step(
        Stage("score", (PICTURES,), (SCORES,), score_pictures),
        lambda config: [stamped_models(config.scores)],
        by_rows(PICTURES.directory, rows_per_unit=PICTURES_PER_UNIT),
        wanted=scores_pictures,
    ),
    Step(
        Stage("embed", (PICTURES,), (NEAREST,), embed_pictures),
        lambda config: [stamped_embedding(config.filters.evaluation, config.scores)],
        by_rows(PICTURES.directory, rows_per_unit=PICTURES_PER_UNIT),
        wanted=lambda config: bool(config.filters.evaluation.model),
    ),
)
ASSEMBLE = (
    Step(
        Stage("place", (REFERENCES, MEDIA, SCORES, NEAREST), (PLACEMENTS, SHOWN, NEAR_MISSES), place_images),
        lambda config: [config.filters.images, stamped_sets(config.filters.evaluation), for_pictures(config.scores)],
        by_rows(REFERENCES.directory, MEDIA.directory),
    ),
    Step(
        Stage("template", (SHOWN,), (TEMPLATES,), settle_templates),
        lambda config: [replace(PageRules(), max_pages=config.filters.pages.max_pages)],
        by_any_rows(SHOWN.directory),
        wanted=lambda config: config.filters.pages.max_pages > 0,
    ),
    Step(
        Stage("select", (DOCUMENTS, STAYING, PLACEMENTS, BOILERPLATE, TEMPLATES), (SAMPLES,), select_documents),
        lambda config: [
            *(config.privacy, config.filters.pages, config.filters.language),
            replace(config.filters.texts, flagged_words=stamp_flagged(config.filters.texts.flagged_words)),
        ],
        by_rows(DOCUMENTS.directory, PLACEMENTS.directory),
    ),
    Step(
        Stage("shard", (SAMPLES,), (), partial(write_shard, kind=INTERLEAVED_KIND)),
        lambda config: [config.shards],
        by_shard(SAMPLES, "select", "page", "image bytes"),
        shards=INTERLEAVED_KIND,
    ),
    Step(
        Stage("texts", (DOCUMENTS,), (TEXTS, CANDIDATES), write_texts),
        lambda config: [],
        by_rows(DOCUMENTS.directory),
        wanted=writes_pairs,
    ),
    Step(
        Stage("count", (TEXTS,), (CANDIDATES,), count_pictures),
        lambda config: [replace(PairConfig(), max_pictures=config.pairs.max_pictures)],
        by_rows(TEXTS.directory),
        wanted=writes_pairs,
    ),
    Step(
        Stage("pair", (CANDIDATES, MEDIA, SCORES, NEAREST), (PAIRS, CHOSEN), pair_images),
        lambda config: [
            *(config.pairs, config.filters.images, stamped_sets(config.filters.evaluation)),
            *({} if config.scores.pair_models else for_pictures(config.scores), config.privacy),
        ],
        by_rows(CANDIDATES.directory, MEDIA.directory),
        wanted=writes_pairs,
    ),
    Step(
        Stage("pair_score", (TO_SCORE,), (PAIR_SCORES,), score_pairs),
        lambda config: [stamped_pair_models(config.scores)],
        by_rows(CHOSEN.directory, rows_per_unit=PICTURES_PER_UNIT),
        wanted=scores_pairs,
    ),
    Step(
        Stage("pair_judge", (CHOSEN, PAIR_SCORES), (PAIRS,), judge_pairs),
        lambda config: [config.scores],
        by_rows(CHOSEN.directory),
        wanted=scores_pairs,
    ),
    Step(
        Stage("pair_shard", (PAIRS,), (), partial(write_shard, kind=PAIR_KIND)),
        lambda config: [config.shards],
        plan_pair_shards,
        shards=PAIR_KIND,
        wanted=writes_pairs,
    ),
    Step(
        Stage("clip", (VIDEO_REFERENCES, CLIPS, CUES), (VIDEOS,), write_captioned),
        lambda config: [config.privacy],
        by_rows(VIDEO_REFERENCES.directory, CLIPS.directory, CUES.directory),
        wanted=writes_videos,
    ),
    Step(
        Stage("video_shard", (VIDEOS,), (), partial(write_shard, kind=VIDEO_KIND)),
        lambda config: [config.shards],
        by_shard(VIDEOS, "clip", "clip", "clip bytes"),
        shards=VIDEO_KIND,
        wanted=writes_videos,
    ),
)
BUILD = EXTRACT + DEDUPLICATE + FETCH + SCORE + ASSEMBLE


def run_steps(job: Job, steps: Sequence[Step], execute: Execute, *, ask: bool = True) -> Totals:
    """Run the steps that are asked for; the steps before them must be done. Without `ask` the web is left alone."""
    totals = Totals()
    for step in BUILD[: BUILD.index(steps[-1]) + 1]:
        if step.ask:
            if ask and may_ask(step, job.config):
                ask_web(job, step.ask, sum(totals.rows[table.directory] for table in step.stage.reads), execute)
            totals.made[ASKED.directory] = fingerprint(ledger_stamp(job.folder, step.ask))
        units = plan_units(step, totals, job)
        remove_stale(job.folder, step.stage, step.shards, units)
        done = finished(job.folder, step.stage)
        todo = [unit for unit in units if unit.name not in done]
        if todo:
            remove_manifests(job.folder)
            execute(step.stage, todo, len(units) - len(todo))
        add_totals(job.folder, step.stage, units, totals)
    if steps[-1] is BUILD[-1]:
        for step in BUILD:
            if step.shards and step.wanted(job.config):
                write_manifest(job, totals, step.stage.name, step.shards)
        write_datasheet(job.folder)
    return totals


def may_ask(step: Step, config: BuildConfig) -> bool:
    """Tell whether the web is asked before a step: in somebody's name, and for what the dataset will hold."""
    return bool(config.fetch.contact) and (step.ask != VIDEO or writes_videos(config))
