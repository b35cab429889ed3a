"""Reading tar archives: what Python's tarfile writes is read back, and nothing that is damaged passes in silence."""

import io
import pickle
import tarfile

import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_expander

from flamingo_model import tar
from flamingo_model.tar import BLOCK, DamagedTar, Extent, members, sample_parts, scan, split_name

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
PAIR = (("jpg", b"\xff\xd8" * 700), ("json", b"{}"), ("txt", b"a heron"))


def archive(files, format="ustar", **fields):
    """Write a tar of (name, bytes) or of ready-made TarInfo."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=FORMATS[format]) as writer:
        for name, data in files:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            writer.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def shard(count=5, parts=PAIR, **named):
    return archive([(f"{number:04d}.{part}", data) for number in range(count) for part, data in parts], **named)


def scanned(data):
    return scan(io.BytesIO(data))


def damage(data):
    with pytest.raises(DamagedTar) as caught:
        scanned(data)
    return caught.value


def attempt(read):
    """Give the value of a call and no error, or no value and the one error that it may raise."""
    try:
        return read(), None
    except DamagedTar as error:
        return None, error


def by_webdataset(*archives, handler=wds.handlers.reraise_exception):
    """Read archives one after the other as webdataset does: key and parts of each sample."""
    sources = [{"url": f"{number}.tar", "stream": io.BytesIO(data)} for number, data in enumerate(archives)]
    samples = group_by_keys(tar_file_expander(sources, handler=handler), handler=handler)
    return [(sample["__key__"], sorted(name for name in sample if name[:2] != "__")) for sample in samples]


def headers_of(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as reader:
        return [info.offset for info in reader]


NAMES = st.lists(
    st.text(
        st.characters(codec="utf-8", exclude_characters="/\0.", exclude_categories=("Cs",)), min_size=1, max_size=30
    ),
    min_size=1,
    max_size=12,
).map("/".join)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        NAMES,
        st.dictionaries(st.sampled_from(["jpg", "txt", "m000.png"]), st.binary(max_size=1500), min_size=1),
        max_size=5,
    ),
    st.sampled_from(["gnu", "pax"]),
    st.sampled_from([0, 1.5]),
)
def test_what_tarfile_writes_is_read(samples, format, mtime):
    samples = {key: parts for key, parts in samples.items() if not key.startswith("__")}
    files = [(f"{key}.{part}", data) for key, parts in samples.items() for part, data in parts.items()]
    data = archive(files, format, mtime=mtime)
    assert list(members(data)) == files
    found = scanned(data)
    assert [extent.key for extent in found] == list(samples)
    for extent in found:
        own = data[extent.offset : extent.offset + extent.length]
        assert sample_parts(own) == (extent.key, samples[extent.key])
        assert list(members(own)) == [
            (f"{extent.key}.{part}", content) for part, content in samples[extent.key].items()
        ]


def test_ustar_names_that_are_split_in_two():
    name = "/".join(["folder" * 5] * 6) + "/0001.jpg"
    assert len(name) > 100
    assert list(members(archive([(name, b"x")]))) == [(name, b"x")]


def test_what_is_no_member_of_a_sample_is_passed_over():
    folder, link = tarfile.TarInfo("a/"), tarfile.TarInfo("a/0.lnk")
    folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "0.jpg"
    files = [(folder, b""), ("a/0.jpg", b"0"), (link, b""), ("a/README", b"?"), ("a/0.txt", b"1")]
    files += [("__index__/a.json", b"{}"), ("a/.hidden", b"2"), ("__meta__", b""), ("a/1.jpg", b"3")]
    data = archive(files)
    assert list(members(data)) == [("a/0.jpg", b"0"), ("a/0.txt", b"1"), ("a/1.jpg", b"3")]
    assert [extent.key for extent in scanned(data)] == ["a/0", "a/1"]


def test_a_global_header_belongs_to_no_sample():
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x", "path": "no"}
    ) as writer:
        info = tarfile.TarInfo("0.txt")
        info.size = 1
        writer.addfile(info, io.BytesIO(b"0"))
    found = scanned(stream.getvalue())
    assert found == [Extent("0", 2 * BLOCK, 2 * BLOCK)]
    assert list(members(stream.getvalue())) == [("0.txt", b"0")]


def test_sizes_in_base_256_and_in_pax_records():
    header = tarfile.TarInfo("0.bin")
    header.size = 700
    block = bytearray(header.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = b"\x80" + (700).to_bytes(11, "big")
    assert list(members(signed_block(block) + b"x" * 700 + bytes(324))) == [("0.bin", b"x" * 700)]
    record = b"12 size=700\n"
    pax = tarfile.TarInfo("PaxHeaders/0")
    pax.type, pax.size = tarfile.XHDTYPE, len(record)
    header.size = 0
    data = pax.tobuf(tarfile.USTAR_FORMAT) + record.ljust(BLOCK, b"\0") + header.tobuf(tarfile.USTAR_FORMAT)
    assert list(members(data + b"x" * 700 + bytes(324))) == [("0.bin", b"x" * 700)]


def signed_block(block, signed=False):
    """Put the checksum into a header."""
    block = bytearray(block)
    block[148:156] = b" " * 8
    total = sum(byte - 256 if signed and byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def test_checksums_of_signed_bytes_are_taken():
    header = tarfile.TarInfo("é.txt")
    block = signed_block(header.tobuf(tarfile.USTAR_FORMAT), signed=True)
    assert block != header.tobuf(tarfile.USTAR_FORMAT)
    assert list(members(block)) == [("é.txt", b"")]


def test_a_stream_that_cannot_seek_is_read_once():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise AssertionError("it cannot")

        def read(self, size=-1):
            return super().read(min(size, 700) if size >= 0 else size)

    data = shard()
    assert scan(Pipe(data)) == scan(Pipe(data), len(data)) == scanned(data)
    for short in (data[:3000], data[: scanned(data)[3].offset]):
        with pytest.raises(DamagedTar) as caught:
            scan(Pipe(short))
        assert caught.value.whole == damage(short).whole


def test_only_headers_of_large_members_are_read():
    class Counted(io.BytesIO):
        got = 0

        def read(self, size=-1):
            data = super().read(size)
            self.got += len(data)
            return data

    stream = Counted(shard(parts=(("mp4", bytes(1_000_000)), ("txt", b"a"))))
    assert len(scan(stream)) == 5
    assert stream.got < 20_000


# Trap C: a shard that ends too early.


def test_a_shard_cut_between_members_is_read_in_silence_by_webdataset_but_not_here():
    data = shard()
    begin = scanned(data)[3].offset
    within = data[: begin + 3 * BLOCK + BLOCK]  # the fourth sample's picture alone
    assert by_webdataset(within)[-1] == ("0003", ["jpg"])
    assert len(by_webdataset(data[:begin])) == 3
    error = damage(within)
    assert (error.reason, [extent.key for extent in error.whole]) == (tar.NO_END, ["0000", "0001", "0002"])
    # Nothing shows that the last sample before a cut had no further member.
    assert [extent.key for extent in damage(data[:begin]).whole] == ["0000", "0001"]


def test_one_flipped_bit_ends_a_shard_in_silence_for_webdataset_but_not_here():
    data = bytearray(shard(10))
    data[scanned(bytes(data))[4].offset + 5] ^= 1
    assert len(by_webdataset(bytes(data))) == 4
    error = damage(bytes(data))
    assert (error.reason, len(error.whole)) == (tar.BAD_HEADER, 3)
    assert error.offset == scanned(shard(10))[4].offset


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_flipped_bit_of_a_header_changes_what_is_found(data):
    whole = shard(3, format="pax", mtime=1.5)
    at = data.draw(st.sampled_from(headers_of(whole))) + data.draw(st.integers(0, BLOCK - 1))
    spoiled = bytearray(whole)
    spoiled[at] ^= 1 << data.draw(st.integers(0, 7))
    found, error = attempt(lambda: (scanned(bytes(spoiled)), list(members(bytes(spoiled)))))
    if error:
        assert scanned(whole)[: len(error.whole)] == list(error.whole)
    else:  # a blank for a leading zero, say
        assert found == (scanned(whole), list(members(whole)))


WHOLE = shard(4)
END = len(WHOLE.rstrip(b"\0")) // BLOCK * BLOCK + BLOCK


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(WHOLE)) | st.integers(0, len(WHOLE) // BLOCK).map(lambda blocks: blocks * BLOCK))
def test_a_shard_cut_anywhere_is_whole_or_says_so(length):
    found = scanned(WHOLE)
    if length >= END + 2 * BLOCK:
        assert scanned(WHOLE[:length]) == found
        return
    error = damage(WHOLE[:length])
    assert error.reason in (tar.CUT, tar.NO_END)
    assert list(error.whole) == found[: len(error.whole)]
    lost = [extent for extent in found[len(error.whole) :] if extent.offset + extent.length <= length]
    assert len(lost) <= 1


def test_the_first_end_block_shows_that_the_last_sample_is_whole():
    error = damage(WHOLE[: END + BLOCK])
    assert (error.reason, len(error.whole)) == (tar.NO_END, 4)


def test_what_follows_the_end_is_no_silence():
    assert damage(WHOLE + WHOLE).reason == tar.AFTER_END
    assert len(damage(WHOLE + WHOLE).whole) == 4
    assert damage(WHOLE + bytes(2 * tar.MAX_PADDING_BYTES)).reason == tar.AFTER_END


# Trap D: what is left of a damaged shard joins the next.


def test_half_a_sample_joins_the_next_shard_in_webdataset_but_not_here():
    first, second = shard(2), archive([("0001.cls", b"7"), ("0002.txt", b"another")])
    begin = scanned(first)[1].offset
    cut = first[: begin + 4 * BLOCK + BLOCK + 1]  # within the second member of the second sample
    mixed = by_webdataset(cut, second, handler=wds.handlers.ignore_and_continue)
    assert mixed == [("0000", ["jpg", "json", "txt"]), ("0001", ["cls", "jpg"]), ("0002", ["txt"])]
    assert [extent.key for extent in damage(cut).whole] == ["0000"]
    assert [extent.key for extent in scanned(second)] == ["0001", "0002"]


def test_keys_that_come_again_are_no_two_samples():
    files = [("a.jpg", b"1"), ("a.txt", b"2"), ("b.jpg", b"3"), ("a.json", b"4"), ("c.jpg", b"5")]
    assert by_webdataset(archive(files)) == [("a", ["jpg", "txt"]), ("b", ["jpg"]), ("a", ["json"]), ("c", ["jpg"])]
    error = damage(archive(files))
    assert (error.reason, [extent.key for extent in error.whole]) == (tar.REPEATED_KEY, ["a", "b"])
    assert "'a' comes a second time" in str(error)


def test_a_member_comes_once():
    data = archive([("a.jpg", b"1"), ("a.jpg", b"2")])
    assert damage(data).reason == tar.REPEATED_MEMBER
    with pytest.raises(DamagedTar) as caught:
        sample_parts(data)
    assert caught.value.reason == tar.REPEATED_MEMBER


def test_a_sample_is_one_sample():
    for data, reason in (
        (shard(2), tar.MIXED_KEYS),
        (b"", tar.NO_MEMBERS),
        (archive([("README", b"")]), tar.NO_MEMBERS),
    ):
        with pytest.raises(DamagedTar) as caught:
            sample_parts(data)
        assert caught.value.reason == reason


# Trap Q: dots in keys.


def test_a_dot_ends_a_key_as_it_does_in_webdataset():
    files = [("img.v1.000.jpg", b"1"), ("img.v1.001.jpg", b"2"), ("b/c.d/e.f.txt", b"3")]
    assert by_webdataset(archive(files)) == [("img", ["v1.000.jpg", "v1.001.jpg"]), ("b/c.d/e", ["f.txt"])]
    found = scanned(archive(files))
    assert [extent.key for extent in found] == ["img", "b/c.d/e"]
    assert split_name("img.v1.000.jpg") == ("img", "v1.000.jpg")
    assert split_name("b/c.d/e.f.txt") == ("b/c.d/e", "f.txt")


@given(st.text("ab_./", max_size=12))
def test_names_are_split_as_webdataset_splits_them(name):
    key, part = split_name(name)
    theirs = wds.tariterators.base_plus_ext(name)
    if part:
        assert theirs == (key, part)
    else:
        assert theirs[0] is None or theirs[1] == "" or theirs[0].endswith("/") or name.startswith("__")


@pytest.mark.parametrize("start", tar.COMPRESSED_STARTS)
def test_a_compressed_shard_is_told_from_a_spoiled_one(start):
    assert damage(start.ljust(2 * BLOCK, b"\1")).reason == tar.COMPRESSED


def test_sparse_members_are_refused():
    sparse = tarfile.TarInfo("0.bin")
    sparse.type = tarfile.GNUTYPE_SPARSE
    assert damage(archive([(sparse, b"")], "gnu")).reason == tar.UNSUPPORTED
    info = tarfile.TarInfo("0.bin")
    info.pax_headers = {"GNU.sparse.major": "1"}
    assert damage(archive([(info, b"")], "pax")).reason == tar.UNSUPPORTED


@pytest.mark.parametrize(
    "records",
    [b"x path=a\n", b"9999 path=a\n", b"8 path=a\n", b"7 patha\n", b"0 path=a\n", b"11 size=-1\n", b"11 path=a\n\n\n"],
)
def test_spoiled_pax_records_are_refused(records):
    pax = tarfile.TarInfo("p")
    pax.type = tarfile.XHDTYPE
    error = damage(archive([(pax, records), ("0.txt", b"1")]))
    assert error.reason in (tar.BAD_HEADER, tar.BAD_SIZE)


def test_sizes_that_are_none_are_refused():
    for field in (b"-0000000001\0", b"zzzzzzzzzzz\0", b"\xff" * 12):
        block = bytearray(tarfile.TarInfo("0.bin").tobuf())
        block[124:136] = field
        assert damage(signed_block(block) + bytes(2 * BLOCK)).reason == tar.BAD_SIZE
    for field in (b"77777777777\0", b"777777777777", b"\x80" + b"\xff" * 11):
        block[124:136] = field
        assert damage(signed_block(block) + bytes(2 * BLOCK)).reason == tar.CUT
    long = tarfile.TarInfo("L")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, tar.MAX_EXTENSION_BYTES + 1
    assert damage(long.tobuf() + bytes(2 << 20)).reason == tar.BAD_HEADER


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=1200) | st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=9)), max_size=4)
)
def test_hostile_bytes_give_one_kind_of_error(spoiling):
    data = spoiling if isinstance(spoiling, bytes) else bytearray(shard(2, (("txt", b"a"),), format="pax", mtime=0.5))
    for at, piece in [] if isinstance(spoiling, bytes) else spoiling:
        data[at : at + len(piece)] = piece
        # Spoiled content must reach the reader: the headers' checksums are made right again.
        for begin in range(0, len(data) - BLOCK + 1, BLOCK):
            if any(data[begin : begin + BLOCK]) and data[begin + 257 : begin + 262] == b"ustar":
                data[begin : begin + BLOCK] = signed_block(data[begin : begin + BLOCK])
    for read in (lambda: scanned(bytes(data)), lambda: list(members(bytes(data)))):
        _, error = attempt(read)
        assert error is None or (error.reason and error.offset >= 0)


def test_too_many_samples_are_refused(monkeypatch):
    monkeypatch.setattr(tar, "MAX_SAMPLES", 3)
    assert damage(shard(5)).reason == tar.TOO_MANY


def test_errors_travel_between_processes():
    error = damage(shard()[:3000])
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reason, again.offset, again.whole) == (
        str(error),
        error.reason,
        error.offset,
        error.whole,
    )
