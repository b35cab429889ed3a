"""What travels survives its trip to disk and back: rows of Parquet, members of tar files, JSON."""

import dataclasses
import hashlib
import io
import json
import tarfile
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipeline.dom import to_utf8
from pipeline.shard import write_sample
from schemas import SCHEMA_VERSION
from schemas.document import (
    DOCUMENT_SCHEMA,
    Document,
    ImageRef,
    Said,
    Text,
    Track,
    VideoRef,
    document_from_row,
    document_to_row,
    item_from_row,
)
from schemas.media import MEDIA_SCHEMA, MISSING, REJECTED, STORED, Media, media_from_row, media_to_row
from schemas.page import REJECTED_SCHEMA, Origin, Rejected, key_of, rejected_to_row
from schemas.sample import FIELDS, Interleaved, Picture, from_members, to_members
from schemas.shard import INDEX_SCHEMA, FunnelRow, Manifest, Shard, manifest_from_json, manifest_to_json, shard_name

INT32, INT64 = 2**31 - 1, 2**63 - 1
HARD_TEXTS = [
    "",
    "\0",
    "\x1b[31m\r\n\t\x7f",
    "\u202eabc\u2066\u200f",
    "\U0001f9a9\U0010ffff",
    "\ufeff\ufffe\u2028e\u0301",
]
TEXTS = st.one_of(st.sampled_from(HARD_TEXTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
SIZES = st.one_of(st.none(), st.sampled_from([0, 1, -1, INT32, -INT32 - 1]), st.integers(0, 10**5))
LONGS = st.one_of(st.sampled_from([0, INT64]), st.integers(0, 2**40))
TIMES = st.one_of(st.none(), st.datetimes(datetime.min, datetime.max, timezones=st.just(UTC)))
ORIGINS = st.builds(Origin, TEXTS, LONGS, LONGS)
SAID = st.lists(st.builds(Said, TEXTS, TEXTS), max_size=3).map(tuple)
TRACKS = st.lists(st.builds(Track, TEXTS, TEXTS, TEXTS), max_size=2).map(tuple)
ITEMS = st.one_of(
    st.builds(Text, TEXTS),
    st.builds(ImageRef, TEXTS, TEXTS, TEXTS, SIZES, SIZES, SAID),
    st.builds(VideoRef, TEXTS, SAID, TEXTS, st.floats(0, 1e9), TIMES, TRACKS),
)
DOCUMENTS = st.builds(
    Document,
    url=TEXTS,
    title=TEXTS,
    language=TEXTS,
    items=st.lists(ITEMS, max_size=6).map(tuple),
    origin=ORIGINS,
    fetched=TIMES,
    canonical=TEXTS,
    published=TIMES,
    author=TEXTS,
    licence=TEXTS,
)
PICTURES = st.builds(
    Picture,
    url=TEXTS,
    alt=TEXTS,
    caption=TEXTS,
    sha256=TEXTS,
    phash=TEXTS,
    format=st.sampled_from(["jpeg", "png", "webp"]),
    width_px=st.integers(0, INT32),
    height_px=st.integers(0, INT32),
    data=st.one_of(st.binary(max_size=40), st.sampled_from([b"", bytes(511), bytes(512), bytes(513)])),
)


@st.composite
def samples(draw):
    images = tuple(draw(st.lists(PICTURES, max_size=3)))
    item = st.one_of(TEXTS, st.integers(0, len(images) - 1)) if images else TEXTS
    url = draw(TEXTS)
    return Interleaved(
        key=key_of(url),
        url=url,
        title=draw(TEXTS),
        language=draw(TEXTS),
        items=tuple(draw(st.lists(item, max_size=6))),
        images=images,
        origin=draw(ORIGINS),
        fetched=draw(TIMES),
        canonical=draw(TEXTS),
        published=draw(TIMES),
        author=draw(TEXTS),
        licence=draw(TEXTS),
    )


SHARDS = st.lists(samples(), min_size=1, max_size=3, unique_by=lambda sample: sample.key)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PICTURE = Picture("http://a/i", "alt", "caption", "ab", "cd", "jpeg", 3, 2, b"JPEG")
SAMPLE = Interleaved(
    key_of("http://a/"), "http://a/", "Title", "en", ("one", 0, "two", 0), (PICTURE,), Origin("f.warc", 7, 9), None
)


def through_parquet(rows, schema, path):
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")
    table = pq.read_table(path)
    assert table.schema.equals(schema)
    return table.to_pylist()


def write_tar(path, written):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        return [write_sample(tar, sample, path.name) for sample in written]


def members_of(path):
    """Read a shard with the standard library alone: key → [(name, bytes)]."""
    found = {}
    with tarfile.open(path) as tar:
        for info in tar:
            key, _, name = info.name.partition(".")
            found.setdefault(key, []).append((name, tar.extractfile(info).read()))
    return found


@quick
@given(st.lists(DOCUMENTS, max_size=4))
def test_documents_round_trip_through_parquet(tmp_path, documents):
    rows = through_parquet([document_to_row(one) for one in documents], DOCUMENT_SCHEMA, tmp_path / "d.parquet")
    assert [document_from_row(row) for row in rows] == documents
    assert [row["key"] for row in rows] == [one.key for one in documents]


@quick
@given(
    st.builds(
        Media,
        url=TEXTS,
        status=st.sampled_from([STORED, REJECTED, MISSING]),
        reason=TEXTS,
        detail=TEXTS,
        phash=TEXTS,
        width_px=st.integers(0, INT32),
        stored_height_px=st.integers(0, INT32),
        stored_bytes=LONGS,
        colour_range=st.integers(0, 255),
        source=st.none() | ORIGINS,
        location=st.none() | ORIGINS,
    )
)
def test_media_round_trip_through_parquet(tmp_path, media):
    assert media_from_row(through_parquet([media_to_row(media)], MEDIA_SCHEMA, tmp_path / "m.parquet")[0]) == media


@quick
@given(st.builds(Rejected, *[TEXTS] * 6, origin=st.none() | ORIGINS))
def test_rejections_keep_every_field_in_parquet(tmp_path, rejected):
    (row,) = through_parquet([rejected_to_row(rejected)], REJECTED_SCHEMA, tmp_path / "r.parquet")
    origin = row["origin"] and Origin(**row["origin"])
    assert Rejected(**{name: row[name] for name in row if name not in ("key", "origin")}, origin=origin) == rejected
    assert row["key"] == key_of(rejected.url)


def test_schemas_name_every_field_of_their_types():
    assert {*DOCUMENT_SCHEMA.names} == {"key"} | {field.name for field in dataclasses.fields(Document)}
    assert {*MEDIA_SCHEMA.names} == {"key"} | {field.name for field in dataclasses.fields(Media)}
    assert {*REJECTED_SCHEMA.names} == {"key"} | {field.name for field in dataclasses.fields(Rejected)}


@pytest.mark.parametrize("field", ["url", "title", "author"])
def test_a_lone_surrogate_cannot_be_written(field):
    document = dataclasses.replace(Document("u", "t", "en", (), Origin("f", 0)), **{field: "a\ud800b"})
    with pytest.raises(ValueError, match="surrogates not allowed"):
        pa.Table.from_pylist([document_to_row(document)], schema=DOCUMENT_SCHEMA)
    with pytest.raises(ValueError, match="surrogates not allowed"):
        to_members(dataclasses.replace(SAMPLE, **{field: "a\ud800b"}))


@given(st.binary(max_size=40), st.sampled_from([None, "utf-8", "utf-16", "utf-7", "cp1252", "gbk"]))
@settings(max_examples=60, deadline=None)
def test_no_page_decodes_to_a_surrogate_or_nul(html, charset):
    assert "\0" not in to_utf8(html + b"\xed\xa0\x80\0", charset).decode()


def test_a_size_beyond_its_column_is_an_error():
    document = Document("u", "t", "en", (ImageRef("i", width_px=INT32 + 1),), Origin("f", 0))
    with pytest.raises(pa.ArrowInvalid, match="too large"):
        pa.Table.from_pylist([document_to_row(document)], schema=DOCUMENT_SCHEMA)


def test_an_unknown_item_is_refused():
    with pytest.raises(ValueError, match=r"unknown item kind 'sound' \(known: text, image, video\)"):
        item_from_row({"kind": "sound"})


@quick
@given(samples())
def test_samples_round_trip_through_members(sample):
    members = to_members(sample)
    assert from_members(members) == sample
    assert from_members(reversed(members)) == sample
    assert members[0][0] == "json"
    assert to_members(from_members(members)) == members
    header = json.loads(members[0][1])
    assert header.keys() == {"schema", "kind", *FIELDS}
    assert all((text is None) != (image is None) for text, image in zip(header["texts"], header["images"], strict=True))


@quick
@given(SHARDS)
def test_samples_round_trip_through_a_shard(tmp_path, written):
    path = tmp_path / "shard-000000.tar"
    write_tar(path, written)
    assert [from_members(members) for members in members_of(path).values()] == written
    first = path.read_bytes()
    write_tar(path, written)
    assert path.read_bytes() == first


@pytest.mark.filterwarnings("ignore:WebDataset.shardshuffle:UserWarning")
@pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SHARDS)
def test_plain_webdataset_reads_a_shard(tmp_path, written):
    path = tmp_path / "shard-000000.tar"
    write_tar(path, written)
    read = list(webdataset.WebDataset(str(path)))
    assert [sample["__key__"] for sample in read] == [sample.key for sample in written]
    found = [[(name, data) for name, data in sample.items() if not name.startswith("__")] for sample in read]
    assert [from_members(members) for members in found] == written


def test_a_shard_is_plain_ustar_with_nothing_of_its_maker(tmp_path):
    path = tmp_path / "shard-000000.tar"
    two = dataclasses.replace(SAMPLE, images=(PICTURE, dataclasses.replace(PICTURE, format="png")))
    write_tar(path, [two])
    names = [f"{SAMPLE.key}.json", f"{SAMPLE.key}.m000.jpg", f"{SAMPLE.key}.m001.png"]
    with tarfile.open(path) as tar:
        infos = tar.getmembers()
        assert tar.pax_headers == {}
    assert [info.name for info in infos] == names
    for info in infos:
        assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
        assert (info.mode, info.type, info.pax_headers) == (0o644, tarfile.REGTYPE, {})
        assert path.read_bytes()[info.offset + 257 : info.offset + 265] == b"ustar\x0000"
    assert path.stat().st_size % tarfile.RECORDSIZE == 0


@quick
@given(SHARDS)
def test_the_index_points_at_the_bytes(tmp_path, written):
    path = tmp_path / "shard-000000.tar"
    rows = through_parquet(write_tar(path, written), INDEX_SCHEMA, tmp_path / "index.parquet")
    data = path.read_bytes()
    assert [row["key"] for row in rows] == [sample.key for sample in written]
    for row, sample in zip(rows, written, strict=True):
        piece = data[row["offset"] : row["offset"] + row["length"]]
        with tarfile.open(fileobj=io.BytesIO(piece + bytes(1024))) as tar:
            members = [(info.name.partition(".")[2], tar.extractfile(info).read()) for info in tar]
        assert from_members(members) == sample
        parts = [data[part["offset"] : part["offset"] + part["bytes"]] for part in row["parts"]]
        assert parts == [picture.data for picture in sample.images]
        assert [part["name"] for part in row["parts"]] == [name for name, _ in members[1:]]
        texts = [item for item in sample.items if isinstance(item, str)]
        assert row["shard"] == path.name
        assert (row["texts"], row["chars"]) == (len(texts), sum(map(len, texts)))
        assert row["words"] == sum(len(text.split()) for text in texts)
        for name in ("url", "canonical", "title", "language", "published", "author", "licence"):
            assert row[name] == getattr(sample, name)
    ends = [row["offset"] + row["length"] for row in rows]
    assert [row["offset"] for row in rows] == [0, *ends[:-1]]


def members_with(**changes):
    """Give the members of a sample whose JSON is changed."""
    (name, header), *rest = to_members(SAMPLE)
    return [(name, json.dumps(json.loads(header) | changes).encode()), *rest]


def without(name):
    header = json.loads(to_members(SAMPLE)[0][1])
    del header[name]
    return [("json", json.dumps(header).encode()), *to_members(SAMPLE)[1:]]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (to_members(SAMPLE)[1:], r"no json member among \['m000.jpg'\]"),
        ([], r"no json member among \[\]"),
        (to_members(SAMPLE)[:1], f"sample {SAMPLE.key} lacks its members m000.jpg"),
        ([to_members(SAMPLE)[0], ("m000.jpg", b"JPE")], "member m000.jpg has 3 bytes, its sample says 4"),
        (members_with(schema=99), f"sample schema 99, this version reads {SCHEMA_VERSION}"),
        (members_with(schema=None), f"sample schema None, this version reads {SCHEMA_VERSION}"),
        (members_with(kind="pair"), "sample kind 'pair', expected 'interleaved'"),
        (members_with(texts=["one"]), "argument"),
        (members_with(images=[None, "m001.jpg", None, None]), "shows images that it does not describe: m001.jpg"),
        ([("json", b"[1]")], "a sample's json holds an object, not list"),
        ([("json", b"{")], "Expecting"),
        ([("json", b"\xff")], "decode"),
        *((without(name), f"lacks its fields {name}") for name in FIELDS),
    ],
)
def test_a_broken_sample_is_refused_by_what_is_wrong(members, message):
    with pytest.raises(ValueError, match=message):
        from_members(members)


def test_keys_are_pinned():
    assert key_of("https://example.org/") == "809bb162327cd4a83a2c5b3d"
    assert key_of("") == "b8e1dda3ac0aa3820ad2990b"


@given(st.text(max_size=50), st.text(max_size=50))
def test_keys_are_names_of_members(one, other):
    assert set(key_of(one)) <= set("0123456789abcdef")
    assert len(key_of(one)) == 24
    assume(one != other)
    assert key_of(one) != key_of(other)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)
MANIFESTS = st.builds(
    Manifest,
    kind=TEXTS,
    shards=st.lists(st.builds(Shard, TEXTS, LONGS, LONGS, TEXTS), max_size=3).map(tuple),
    funnel=st.lists(
        st.builds(FunnelRow, TEXTS, TEXTS, LONGS, LONGS, st.dictionaries(TEXTS, LONGS, max_size=3)), max_size=3
    ).map(tuple),
    config=st.dictionaries(TEXTS, JSON, max_size=3),
    version=TEXTS,
)


@quick
@given(MANIFESTS)
def test_manifests_round_trip_through_json(tmp_path, manifest):
    path = tmp_path / "manifest.json"
    path.write_bytes(manifest_to_json(manifest).encode())
    text = path.read_bytes().decode()
    assert manifest_from_json(text) == manifest
    assert manifest_to_json(manifest_from_json(text)) == text


def test_a_manifest_of_another_schema_is_refused_by_name():
    text = manifest_to_json(Manifest("interleaved", (), (), {}, "0", schema=99))
    with pytest.raises(ValueError, match=f"manifest schema 99, this version of flamingo reads {SCHEMA_VERSION}"):
        manifest_from_json(text)


def test_shards_sort_as_they_are_numbered():
    assert [shard_name(index) for index in (0, 7, 123456)] == [
        "shard-000000.tar",
        "shard-000007.tar",
        "shard-123456.tar",
    ]


def test_a_known_sample_keeps_its_bytes(tmp_path):
    path = tmp_path / "shard-000000.tar"
    write_tar(path, [SAMPLE])
    assert (
        hashlib.sha256(path.read_bytes()).hexdigest()
        == "60a2bcc617cc5468c15eb1579e609d2e303b3c2bd28309bd3959c964819fdd6c"
    )
