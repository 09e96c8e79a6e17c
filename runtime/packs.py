"""New objects of a repository: kept in memory as they come, written together as one pack, on the disk before anything names them.

Knows git's pack format (version 2, whole objects) and flushing; not what the objects mean. A pack and not loose objects, because
it is two files and three flushes for any number of objects, and because of the `.keep` beside it: it is how git's own fetch guards
objects that no ref names yet, so a `git gc` or `git prune` that somebody runs meanwhile leaves them alone. Loose ones it takes,
even those that are a moment old. The `.keep` names the run it is for, and goes when the run has ended.

Many small packs would slow every git command down: whenever `TIER` of a size have gathered they are copied into one.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha1
from pathlib import Path
from typing import Final

import attrs

from . import failpoints
from .processes import alive

COMMIT: Final = 1  # git's numbers for kinds of objects
TREE: Final = 2
BLOB: Final = 3
TIER: Final = 16

_NAMES: Final = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob"}
_LEVEL: Final = 1  # of compression: git packs again, better, when it collects
_MAPPED: Final = 2**18  # bytes; a pack of this size and more
_LARGEST: Final = 2**30  # bytes; an offset in the index has 31 bits
_REMEMBERED: Final = 1024  # ids of objects on the disk, in each of two generations; some 100 bytes each
_KEEP: Final = "journeyman "  # how the `.keep` files of ours begin; the run comes after it
_UNFINISHED: Final = "journeyman-*.new"

Piece = tuple[bytes, int, bytes | memoryview]
"""(raw object id, CRC-32, bytes) of one object as it is in a pack."""


def object_id(kind: int, data: bytes) -> bytes:
    """The raw id of an object."""
    return sha1(b"%s %d\0" % (_NAMES[kind], len(data)) + data, usedforsecurity=False).digest()


@attrs.define
class Packs:
    """The new objects of one repository. May be used from several threads."""

    folder: Path  # `objects/pack`
    run: str = ""
    written: int = 0  # packs, so far
    _new: dict[bytes, tuple[int, bytes]] = attrs.field(factory=dict)  # {raw id: (kind, bytes)}; not on the disk yet
    # Raw ids of what came last into packs that we keep: it need not be written again. Of a long run not all: twice is no harm
    _there: set[bytes] = attrs.field(factory=set)
    _there_before: set[bytes] = attrs.field(factory=set)
    _tiers: list[list[Path]] = attrs.field(factory=list)  # our packs without their suffix: [the smallest, ...]
    _keep: tuple[str, Path] | None = None  # (run, a `.keep` of it that is on the disk)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def write(self, kind: int, data: bytes) -> bytes:
        """Take in an object; returns its raw id. It is on the disk after the next `flush`."""
        oid = object_id(kind, data)
        if oid not in self._there and oid not in self._there_before:
            self._new.setdefault(oid, (kind, data))
        return oid

    def read(self, oid: bytes) -> tuple[int, bytes] | None:
        """(kind, bytes) of an object that is not on the disk yet."""
        return self._new.get(oid)

    def flush(self) -> bool:
        """Everything taken in so far is on the disk, durably, when this returns. Whether packs were put together on the way, so
        that some that were there are gone. Raises OSError; the objects stay in memory then."""
        with self._lock:
            new = dict(self._new)
            if not new:
                return False
            for share in _shares(new):
                self._note(0, self._install(share))
            if len(self._there) + len(new) > _REMEMBERED:
                self._there_before, self._there = self._there, set()
            self._there.update(new)
            for oid in new:
                del self._new[oid]
            return self._roll_up()

    def release(self, run: str) -> None:
        """Give the packs of a run to git: whatever a ref names stays, the rest its next collection may take. Those that this
        process made are one pack then."""
        with self._lock:
            every = [pack for tier in self._tiers for pack in tier]
            if len(every) > 1 and self._may_combine(every):
                self._combine(every)
            for keep in self.folder.glob("pack-*.keep"):
                if keep.read_bytes() == f"{_KEEP}{run}\n".encode():
                    failpoints.hit("pack.release.before")
                    keep.unlink()
                    failpoints.hit("pack.release.after")
            self._tiers.clear()
            self._there.clear()
            self._there_before.clear()

    def clean(self) -> None:
        """Remove what a process that was killed while it wrote left half done."""
        for place in self.folder.glob(_UNFINISHED):
            pid = place.name.split("-")[1]
            if not (pid.isdigit() and alive(int(pid))):
                place.unlink(missing_ok=True)

    def kept(self) -> dict[str, list[Path]]:
        """{run: the packs that are kept for it}."""
        found: dict[str, list[Path]] = {}
        for keep in self.folder.glob("pack-*.keep"):
            words = keep.read_text(errors="replace")
            if words.startswith(_KEEP):
                found.setdefault(words.removeprefix(_KEEP).strip(), []).append(keep.with_suffix(".pack"))
        return found

    # --- tiers -------------------------------------------------------------------------------------------------

    def _note(self, tier: int, pack: Path) -> None:
        while len(self._tiers) <= tier:
            self._tiers.append([])
        if pack not in self._tiers[tier]:
            self._tiers[tier].append(pack)

    def _roll_up(self) -> bool:
        """Copy full tiers into one pack each."""
        rolled = False
        for tier in range(len(self._tiers)):
            packs = self._tiers[tier]
            if len(packs) >= TIER and self._may_combine(packs):
                self._tiers[tier] = []
                self._note(tier + 1, self._combine(packs))
                rolled = True
        return rolled

    def _may_combine(self, packs: list[Path]) -> bool:
        """Not into one that is too large, nor while there is an index over many packs: it would name what is gone."""
        sizes = [pack.with_suffix(".pack").stat().st_size for pack in packs if pack.with_suffix(".pack").exists()]
        return sum(sizes) <= _LARGEST and not (self.folder / "multi-pack-index").exists()

    def _combine(self, packs: list[Path]) -> Path:
        whole = self._install(list({piece[0]: piece for pack in packs for piece in _pieces(pack)}.values()))
        for pack in packs:
            if pack != whole:
                for suffix in (".idx", ".pack", ".keep"):  # in git's own order: found no more, then gone
                    pack.with_suffix(suffix).unlink(missing_ok=True)
        return whole

    # --- the format --------------------------------------------------------------------------------------------

    def _install(self, pieces: list[Piece]) -> Path:
        """Write a pack with its index and its `.keep`; the path without suffix. Another process sees it whole, or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        token = f"journeyman-{os.getpid()}-{secrets.token_hex(8)}"
        made = [self.folder / f"{token}{suffix}.new" for suffix in (".keep", ".pack", ".idx")]
        digest = sha1(b"PACK\0\0\0\2" + len(pieces).to_bytes(4, "big"), usedforsecurity=False)
        offsets = []
        at = 12
        body: list[bytes | memoryview] = [b"PACK\0\0\0\2" + len(pieces).to_bytes(4, "big")]
        for _, _, raw in pieces:
            offsets.append(at)
            at += len(raw)
            digest.update(raw)
            body.append(raw)
        body.append(digest.digest())
        base = self.folder / f"pack-{digest.hexdigest()}"
        if self._is_kept_for_others(base.with_suffix(".keep")):
            # The very same objects: with one more they are a pack of their own, which goes when this run's packs go.
            return self._install([*pieces, _piece(object_id(BLOB, self._words), BLOB, self._words)])
        try:
            failpoints.hit("pack.write.before")
            self._write_keep(made[0])
            _write(made[1], body)
            _write(made[2], _index(pieces, offsets, digest.digest()))
            failpoints.hit("pack.write.after")
            failpoints.hit("pack.rename.before")
            for place, suffix in zip(made, (".keep", ".pack", ".idx"), strict=True):
                os.rename(place, base.with_suffix(suffix))
                place.unlink(missing_ok=True)  # a rename to another name of the same file does nothing
        except BaseException:
            for place in made:
                place.unlink(missing_ok=True)
            raise
        flush_folder(self.folder)
        failpoints.hit("pack.rename.after")
        self.written += 1
        self._keep = (self.run, base.with_suffix(".keep"))
        return base

    @property
    def _words(self) -> bytes:
        """What the `.keep` files of this run say."""
        return f"{_KEEP}{self.run}\n".encode()

    def _is_kept_for_others(self, keep: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return keep.read_bytes() != self._words
        return False

    def _write_keep(self, place: Path) -> None:
        """A link to one that is on the disk already spares a flush; where there are no links, another file."""
        if self._keep is None or self._keep[0] != self.run or not self._keep[1].exists():
            _write(place, [self._words])
            return
        try:
            os.link(self._keep[1], place)
        except OSError:
            _write(place, [self._words])


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    at = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)


def _write(place: Path, parts: Iterable[bytes | memoryview]) -> None:
    with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def _shares(new: Mapping[bytes, tuple[int, bytes]]) -> Iterator[list[Piece]]:
    """The objects as they are in a pack, cut where a pack would get too large."""
    share: list[Piece] = []
    size = 0
    for oid, (kind, data) in new.items():
        piece = _piece(oid, kind, data)
        if share and size + len(piece[2]) > _LARGEST:
            yield share
            share, size = [], 0
        share.append(piece)
        size += len(piece[2])
    yield share


def _piece(oid: bytes, kind: int, data: bytes) -> Piece:
    """An object as it is in a pack: its kind and size in seven bits a byte, the last one first, and its bytes compressed."""
    head = [(kind << 4) | (len(data) & 15)]
    rest = len(data) >> 4
    while rest:
        head[-1] |= 128
        head.append(rest & 127)
        rest >>= 7
    raw = bytes(head) + zlib.compress(data, _LEVEL)
    return oid, zlib.crc32(raw), raw


def _index(pieces: list[Piece], offsets: list[int], pack: bytes) -> list[bytes]:
    """An index of version 2: how many ids begin with each byte or less, the ids, the CRCs, the offsets, two checksums."""
    order = sorted(range(len(pieces)), key=lambda at: pieces[at][0])
    counts = [0] * 256
    for oid, _, _ in pieces:
        counts[oid[0]] += 1
    fanout = []
    total = 0
    for count in counts:
        total += count
        fanout.append(total)
    parts = [
        b"\377tOc\0\0\0\2" + struct.pack(">256I", *fanout),
        b"".join(pieces[at][0] for at in order),
        struct.pack(f">{len(order)}I", *(pieces[at][1] for at in order)),
        struct.pack(f">{len(order)}I", *(offsets[at] for at in order)),
        pack,
    ]
    return [*parts, sha1(b"".join(parts), usedforsecurity=False).digest()]


def _body(pack: Path) -> bytes | memoryview:
    """A large one is mapped: as bytes, what sixteen of them hold was in memory twice, in the heap of a thread that does not give it
    back. A map costs a descriptor, which a small one is not worth."""
    with open(pack, "rb") as file:
        if os.fstat(file.fileno()).st_size < _MAPPED:
            return file.read()
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _pieces(pack: Path) -> Iterator[Piece]:
    """The objects of a pack of ours, as they are in it."""
    # Somebody repacked, and took ours along because a ref names what is in it
    with contextlib.suppress(FileNotFoundError):
        index = pack.with_suffix(".idx").read_bytes()
        body = _body(pack.with_suffix(".pack"))
        count = int.from_bytes(index[8 + 255 * 4 : 8 + 256 * 4], "big")
        ids = 8 + 256 * 4
        crcs = struct.unpack_from(f">{count}I", index, ids + 20 * count)
        offsets = struct.unpack_from(f">{count}I", index, ids + 24 * count)
        order = sorted(range(count), key=lambda at: offsets[at])
        ends = [*(offsets[at] for at in order[1:]), len(body) - 20]
        for at, end in zip(order, ends, strict=True):
            yield index[ids + 20 * at : ids + 20 * at + 20], crcs[at], body[offsets[at] : end]
