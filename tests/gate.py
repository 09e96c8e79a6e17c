"""The gate: every class of fault, how often it was done, what was lost by it. `python tests/gate.py`, under ten minutes on two cores.

Each fault is done to real processes in real repositories and ends with the judgement of `nothing_lost` (or of `sessions`, where a landing
is part of it); only the class `simulation` is done to the machine alone, in virtual time. `--short` does a little of each; `--only CLASS`
one of them; `--seed N` other random moments; `--only simulation --seeds 20000` is the long run. Exit code 1 when anything is lost.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import trio
from landings import Landings
from scene import Scene, Shape, Stage, kill_at_random
from sessions import DAEMON, PHASES, Course, die_at, die_ending
from simulation import Faults, World
from zygote import Zygote

from runtime.errors import JournalDamaged, JournalForeign
from runtime.failpoints import POINTS
from runtime.journal import Journal, Reader

ROOT: Final = Path(__file__).parent.parent


@attrs.define
class Tally:
    """What came of one class."""

    name: str
    what: str
    faults: int = 0  # how often it was done
    crashes: int = 0  # how often a process died of it
    lost: list[str] = attrs.field(factory=list)
    note: str = ""
    seconds: float = 0.0


@attrs.define
class Bench:
    """What the classes need: a folder, scenes, two zygotes to work side by side."""

    folder: Path
    rng: random.Random
    short: bool
    seeds: int = 600  # of the simulation
    zygotes: list[Zygote] = attrs.field(factory=list)
    _scenes: dict[tuple[Shape, int], Scene] = attrs.field(factory=dict)
    _count: Iterator[int] = attrs.field(factory=itertools.count)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def many(self, full: int, short: int) -> int:
        """How many of something."""
        return short if self.short else full

    def scene(self, shape: Shape, lane: int = 0) -> Scene:
        """A scene of that shape, with a zygote of its own lane."""
        with self._lock:
            if (shape, lane) not in self._scenes:
                place = self.folder / f"scene{next(self._count)}"
                self._scenes[shape, lane] = Scene.make(place, self.zygotes[lane], shape)
            return self._scenes[shape, lane]

    def side_by_side(self, tally: Tally, jobs: Sequence[Callable[[int], int]]) -> None:
        """Do jobs on all lanes; each gets its lane and gives the crashes that it made."""
        todo = iter(list(jobs))

        def lane(number: int) -> None:
            while True:
                with self._lock:
                    job = next(todo, None)
                if job is None:
                    return
                crashes, lost = 0, []
                try:
                    crashes = job(number)
                except Exception as error:
                    lost = [f"{type(error).__name__}: {error}"[:2000]]
                with self._lock:
                    tally.faults += 1
                    tally.crashes += crashes
                    tally.lost += lost

        with concurrent.futures.ThreadPoolExecutor(len(self.zygotes)) as pool:
            list(pool.map(lane, range(len(self.zygotes))))


PLAIN: Final = Shape(tasks=4, sleep_s=0.01)
WITH_WORKERS: Final = Shape(tasks=3, rewrites=2, sleep_s=0.01)
SMALL: Final = Shape(tasks=3, sleep_s=0)


# --- the machine alone -----------------------------------------------------------------------------------------


def _seeds(numbers: Sequence[int]) -> tuple[int, list[str]]:
    crashes, lost = 0, []
    for seed in numbers:
        world = World(seed, Faults.of(seed))
        try:
            world.play()
        except AssertionError as error:
            lost.append(str(error))
        crashes += world.crashes
    return crashes, lost


def simulation(bench: Bench) -> Tally:
    """Random plans, failures, deaths and crashes in virtual time; every invariant after every step."""
    tally = Tally("simulation", "seeds in virtual time, every invariant after every step; no process dies")
    first = bench.rng.randrange(10**9)
    seeds = list(range(first, first + bench.many(bench.seeds, 40)))
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        for crashes, lost in pool.map(_seeds, [seeds[at : at + 20] for at in range(0, len(seeds), 20)]):
            tally.crashes += crashes
            tally.lost += lost
    tally.faults = len(seeds)
    return tally


# --- kills -----------------------------------------------------------------------------------------------------


def _finished(stage: Stage) -> int:
    stage.judge()
    kills = stage.kills
    stage.strike()
    return kills


def sigkill(bench: Bench) -> Tally:
    """kill -9 at random moments of a run and of its resumptions."""
    tally = Tally("SIGKILL", "at a random moment of a run, and again of what goes on with it")

    def job(shape: Shape, seed: int) -> Callable[[int], int]:
        def act(lane: int) -> int:
            stage = bench.scene(shape, lane).stage()
            kill_at_random(stage, random.Random(seed), most=2)
            return _finished(stage)

        return act

    shapes = [WITH_WORKERS, PLAIN, PLAIN, PLAIN]
    jobs = [job(shapes[at % 4], bench.rng.randrange(10**9)) for at in range(bench.many(120, 4))]
    bench.side_by_side(tally, jobs)
    return tally


def group_kill(bench: Bench) -> Tally:
    """kill -9 of the whole process group, so that a git that works for us dies in the middle too."""
    tally = Tally("SIGKILL of the group", "at a random moment, the git programs inside it too")

    def job(seed: int) -> Callable[[int], int]:
        def act(lane: int) -> int:
            rng = random.Random(seed)
            stage = bench.scene(PLAIN, lane).stage()
            started = stage.start()
            if started.wait(rng.uniform(0.02, 0.7) * stage.scene.length_s) is None:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()
                stage.kills += 1
                stage.run_on()
            return _finished(stage)

        return act

    bench.side_by_side(tally, [job(bench.rng.randrange(10**9)) for _ in range(bench.many(80, 3))])
    return tally


_GIT: Final = """#!/bin/sh
# The real git, but the whole group dies inside of the call that is armed.
case "$*" in
*"{verb}"*) if rm "{armed}" 2>/dev/null; then {real} "$@" & sleep {delay}; kill -9 0; fi ;;
esac
exec {real} "$@"
"""


def inside_git(bench: Bench) -> Tally:
    """kill -9 of the group inside one call of git."""
    tally = Tally("kill inside git", "inside `worktree add` and `read-tree`, git and the run together")
    real = shutil.which("git")

    def job(verb: str, delay_s: float) -> Callable[[int], int]:
        def act(lane: int) -> int:
            stage = bench.scene(PLAIN, lane).stage()
            programs = stage.folder / "bin"
            programs.mkdir()
            armed = stage.folder / "armed"
            armed.touch()
            (programs / "git").write_text(_GIT.format(verb=verb, armed=armed, real=real, delay=delay_s))
            (programs / "git").chmod(0o755)
            started = stage.start(PATH=f"{programs}:{os.environ['PATH']}")
            stage.kills += started.wait(60) == -signal.SIGKILL
            stage.run_on()
            return _finished(stage)

        return act

    delays = (0.001, 0.002, 0.004, 0.008)
    jobs = [
        job(verb, bench.rng.choice(delays)) for verb in ("worktree add", "read-tree") for _ in range(bench.many(20, 1))
    ]
    bench.side_by_side(tally, jobs)
    return tally


def landing(bench: Bench) -> Tally:
    """kill -9 of the group while a landing writes files; a disk that fills up while it does."""
    tally = Tally("landing cut off", "killed with its git while it writes files; the disk full at each of its steps")
    landings = Landings.make(bench.folder / "landings", bench.zygotes)

    def kill(seed: int) -> Callable[[int], int]:
        return lambda lane: landings.kill(random.Random(seed), lane)

    bench.side_by_side(tally, [kill(bench.rng.randrange(10**9)) for _ in range(bench.many(40, 4))])
    if os.geteuid() != 0:
        tally.note = "no full disk: a tmpfs can only be mounted by root"
        return tally
    refused = 0
    for free_kib in range(0, 3400, bench.many(200, 1500)):
        place = bench.folder / f"landing{free_kib}"
        with _tmpfs(place, "8m") as mounted:
            if not mounted:
                tally.note = "no full disk: mounting is not allowed here"
                return tally
            tally.faults += 1
            try:
                refused += landings.fill(place, free_kib)
            except Exception as error:
                tally.lost.append(f"{type(error).__name__}: {error}"[:2000])
    tally.note = f"{refused} refused for want of room"
    return tally


def failpoints(bench: Bench) -> Tally:
    """Each registered point in each verb that reaches it, the first and the last time; then three deep."""
    tally = Tally("failpoints", "each point of each verb, the first and the last time, and three deep in recovery")
    courses = [Course.run(bench.scene(SMALL, lane)) for lane in range(len(bench.zygotes))]
    reached = courses[0].points()
    missing = POINTS - set(DAEMON) - reached.keys()
    tally.lost += [f"the point {point} was never reached" for point in sorted(missing)]
    jobs: list[Callable[[int], int]] = []

    def job(phase: str, points: list[str], *, sure: bool) -> Callable[[int], int]:
        def act(lane: int) -> int:
            place = next(one for one in PHASES if one.name == phase)
            deaths = die_at(courses[lane], place, points)
            assert deaths or not sure, f"{phase}: nothing died at {points}"
            return deaths

        return act

    def ending(point: str) -> Callable[[int], int]:
        def act(lane: int) -> int:
            die_ending(bench.folder / point, point)
            return 1

        return act

    for point, phases in reached.items():
        for phase in phases[: bench.many(99, 0)]:
            jobs.append(job(phase.name, [point], sure=True))
            turns = courses[0].reached[phase.name].count(point)
            if turns > 1:
                jobs.append(job(phase.name, [f"{point}:{turns}"], sure=False))
    if bench.short:
        jobs = [job(reached[point][0].name, [point], sure=True) for point in bench.rng.sample(sorted(reached), 4)]
    jobs += [ending(point) for point in DAEMON]
    for _ in range(bench.many(60, 1)):
        name = bench.rng.choice([phase.name for phase in PHASES if len(set(courses[0].reached[phase.name])) >= 3])
        jobs.append(job(name, bench.rng.sample(sorted(set(courses[0].reached[name])), 3), sure=False))
    bench.side_by_side(tally, jobs)
    tally.note = f"{len(POINTS) - len(missing)} of {len(POINTS)} registered points reached"
    return tally


def sigterm(bench: Bench) -> Tally:
    """SIGTERM at ten moments: what runs may end, the exit code says that it can be resumed."""
    tally = Tally("SIGTERM", "at ten moments of a run: drained, exit 130, resumed")

    def job(tenth: int) -> Callable[[int], int]:
        def act(lane: int) -> int:
            stage = bench.scene(PLAIN, lane).stage()
            started = stage.start()
            if started.wait(stage.scene.length_s * tenth / 10) is None:
                started.send(signal.SIGTERM)
                code = started.wait(40)
                # Before there is anything to drain, and when all is recorded, a process may end as any other does.
                idle = code == -signal.SIGTERM and stage.state() in ("", "done")
                assert code in (0, 130) or idle, f"SIGTERM at {tenth}/10: exit {code}, {stage.state()}: {started.said}"
            stage.run_on()
            _finished(stage)
            return 0

        return act

    bench.side_by_side(tally, [job(tenth) for _ in range(bench.many(3, 1)) for tenth in range(0, 10, bench.many(1, 5))])
    return tally


# --- the system says no ----------------------------------------------------------------------------------------


def _refused(stage: Stage, code: int | None, said: str) -> None:
    """A process that the system refused something ended by itself, in words, not with a traceback."""
    assert code is not None, "it hangs"
    assert code >= 0, f"it died of signal {-code}: {said}"
    assert "Traceback" not in said, said
    assert code == 0 or "journeyman: " in said or "failed" in said, f"exit {code} without a word: {said}"


def _limited(name: str, what: str, limit: str, values: Sequence[int]) -> Callable[[Bench], Tally]:
    def run(bench: Bench) -> Tally:
        tally = Tally(name, what)

        def job(value: int) -> Callable[[int], int]:
            def act(lane: int) -> int:
                stage = bench.scene(PLAIN, lane).stage()
                started = stage.start({limit: value})
                _refused(stage, started.wait(60), started.said + started.out.read_text())
                again = stage.start()
                code = again.wait(60)
                if code == 3:  # attempts were used up by it: a person tries again
                    code = stage.command("retry", stage.run_name()).code
                assert code == 0, f"{limit} {value}, then free: exit {code}: {again.said}{again.out.read_text()}"
                _finished(stage)
                return 0

            return act

        chosen = values if not bench.short else bench.rng.sample(values, 1)
        bench.side_by_side(tally, [job(value) for value in chosen])
        return tally

    return run


emfile = _limited(
    "EMFILE", "too few open files (RLIMIT_NOFILE)", "RLIMIT_NOFILE", (8, 10, 12, 14, 16, 18, 20, 24, 28, 32)
)
fsize = _limited(
    "file size",
    "no file may grow beyond a size (RLIMIT_FSIZE)",
    "RLIMIT_FSIZE",
    (4096, 8192, 16384, 30000, 40000, 60000),
)


def injected(bench: Bench) -> Tally:
    """ENOSPC, EIO and EMFILE at the Nth write, flush or opening of the journal and of packs, by strace."""
    tally = Tally("ENOSPC, EIO, EMFILE", "at the Nth open, write or fsync of the journal, a pack or a ref (strace)")
    if shutil.which("strace") is None:
        tally.note = "not done: there is no strace here"
        return tally
    probe = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    if probe.returncode:
        tally.note = "not done: tracing is not allowed here"
        return tally

    def job(call: str, error: str, when: str, where: str) -> Callable[[int], int]:
        def act(lane: int) -> int:
            stage = bench.scene(PLAIN, lane).stage()
            paths = ["-P", str(stage.repo / ".git" / where)] if where else []
            words = ["strace", "-f", "-qq", "-o", os.devnull, *paths, "-e", f"trace={call}"]
            words += ["-e", f"inject={call}:error={error}:when={when}"]
            plan = str(stage.scene.folder / "plan.toml")
            done = subprocess.run(
                [*words, sys.executable, "-m", "runtime", "run", plan, "--json"],
                cwd=stage.repo, env={**stage.environ(), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=120,
            )  # fmt: skip
            _refused(stage, done.returncode, done.stderr + done.stdout)
            again = stage.start()
            code = again.wait(60)
            if code == 3:
                code = stage.command("retry", stage.run_name()).code
            assert code == 0, f"{call} {error} {when} {where}: exit {code}: {again.said}{again.out.read_text()}"
            _finished(stage)
            return 0

        return act

    file, wal = "journeyman/journal.db", "journeyman/journal.db-wal"
    cases = [("pwrite64", "ENOSPC", f"{n}+", wal) for n in (1, 2, 3, 5, 8, 13)]
    cases += [("fdatasync", "EIO", f"{n}+", wal) for n in (1, 2, 3, 5)]
    cases += [("fsync", "EIO", f"{n}+", "") for n in (1, 2, 3, 5, 8)]
    cases += [("fsync", "ENOSPC", f"{n}+", "") for n in (1, 4)]
    # Only once: SQLite then opens for reading what it was to write.
    cases += [("openat", "EMFILE", str(n), where) for n in (1, 2, 3) for where in (file, wal, f"{file}-shm")]
    bench.side_by_side(tally, [job(*case) for case in (bench.rng.sample(cases, 1) if bench.short else cases)])
    return tally


@contextlib.contextmanager
def _tmpfs(folder: Path, size: str) -> Iterator[bool]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, check=False
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(bench: Bench) -> Tally:
    """The repository on a small tmpfs that is full; then there is room again."""
    tally = Tally("full disk", "the repository on a small tmpfs that is full, then has room again")
    if os.geteuid() != 0:
        tally.note = "not done: a tmpfs can only be mounted by root"
        return tally
    for free_kib in (0, 8, 40, 100, 200)[: bench.many(5, 1)]:
        place = bench.folder / f"small{free_kib}"
        with _tmpfs(place, "4m") as mounted:
            if not mounted:
                tally.note = "not done: mounting is not allowed here"
                return tally
            tally.faults += 1
            try:
                _fill_and_run(bench, place, free_kib)
            except Exception as error:
                tally.lost.append(f"{type(error).__name__}: {error}"[:2000])
    return tally


def _fill_and_run(bench: Bench, place: Path, free_kib: int) -> None:
    scene = bench.scene(PLAIN)
    shutil.copytree(scene.folder / "template", place / "repo", symlinks=True)
    subprocess.run(["git", "status"], cwd=place / "repo", capture_output=True, check=True)
    stage = Stage(scene, place, out=bench.folder)
    stage.environment["XDG_CACHE_HOME"] = str(bench.folder / f"cache{free_kib}")
    stage.cache = bench.folder / f"cache{free_kib}"
    filler = place / "filler"
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(fd, bytes(4096)):
            pass
    os.close(fd)
    room = filler.stat().st_size - free_kib * 1024
    os.truncate(filler, max(0, room))
    started = stage.start()
    _refused(stage, started.wait(60), started.said + started.out.read_text())
    filler.unlink()
    code = stage.start().wait(60)
    if code == 3:
        code = stage.command("retry", stage.run_name()).code
    assert code == 0, f"full disk ({free_kib} KiB free), then room: exit {code}"
    stage.judge()


def read_only(bench: Bench) -> Tally:
    """The repository cannot be written."""
    tally = Tally("read-only", "the repository's file system is read-only, then writable again")
    if os.geteuid() != 0:
        tally.note = "not done: only root can mount"
        return tally
    place = bench.folder / "readonly"
    with _tmpfs(place, "8m") as mounted:
        if not mounted:
            tally.note = "not done: mounting is not allowed here"
            return tally
        scene = bench.scene(PLAIN)
        shutil.copytree(scene.folder / "template", place / "repo", symlinks=True)
        subprocess.run(["git", "status"], cwd=place / "repo", capture_output=True, check=True)
        stage = Stage(scene, place, out=bench.folder)
        stage.cache = bench.folder / "cache-readonly"
        stage.environment["XDG_CACHE_HOME"] = str(stage.cache)
        for mode in ("ro", "rw"):
            subprocess.run(["mount", "-o", f"remount,{mode}", str(place)], check=True)
            started = stage.start()
            code = started.wait(60)
            tally.faults += mode == "ro"
            try:
                _refused(stage, code, started.said + started.out.read_text())
                assert (code == 0) == (mode == "rw"), f"{mode}: exit {code}: {started.said}"
                if mode == "rw":
                    stage.judge()
                    _look_while_read_only(stage, place)
            except Exception as error:
                tally.lost.append(f"{type(error).__name__}: {error}"[:2000])
    return tally


def _look_while_read_only(stage: Stage, place: Path) -> None:
    """Where nothing can be written everything can still be looked at, also behind a journal whose writer was killed; what would
    change something is refused."""
    for last in ("closed", "killed"):
        if last == "killed":
            stage.command("checkpoint", "r1", "--name", "here")
            stage.command("undo", "r1", JOURNEYMAN_FAILPOINT="journal.flush.after")
            assert (stage.repo / ".git/journeyman/journal.db-wal").stat().st_size, "nothing was left behind to read"
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        codes = {
            verb: stage.command(*verb.split()).code for verb in ("runs", "show r1", "diff r1", "doctor", "undo r1")
        }
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        assert list(codes.values()) == [0, 0, 0, 0, 6], f"{last}: {codes}"


def clock(bench: Bench) -> Tally:
    """The wall clock jumps, forwards and back, by years."""
    tally = Tally("clock jumps", "the wall clock jumps by up to years, forwards and back, all through a killed run")

    def job(seed: int) -> Callable[[int], int]:
        def act(lane: int) -> int:
            stage = bench.scene(PLAIN, lane).stage()
            stage.environment["SCENE_CLOCK"] = str(seed)
            kill_at_random(stage, random.Random(seed), most=2)
            return _finished(stage)

        return act

    bench.side_by_side(tally, [job(bench.rng.randrange(10**6)) for _ in range(bench.many(10, 1))])
    return tally


def two_processes(bench: Bench) -> Tally:
    """Two at once in one repository; a lock whose holder is dead, or whose pid is somebody else's by now."""
    tally = Tally("two processes", "at once in one repository; a dead holder, a pid that is another's by now")

    def job(kind: str) -> Callable[[int], int]:
        def act(lane: int) -> int:
            stage = bench.scene(PLAIN, lane).stage()
            if kind == "reused":
                place = stage.repo / ".git/journeyman"
                place.mkdir()
                (place / "journal.lock").write_text(f'{{"pid": {os.getpid()}, "run": "r1"}}')
                stage.run_on()
                return _finished(stage)
            with Zygote() as other:
                first = stage.start()
                words = ["run", str(stage.scene.folder / "plan.toml"), "--json"]
                second = other.start(words, stage.repo, stage.environ(), stage.folder, prefix="second")
                codes = [first.wait(60), second.wait(60)]
                assert sorted(codes) == [0, 6] or codes == [0, 0], (
                    f"two at once: exits {codes}: {first.said}{second.said}"
                )
                for one in (first, second):
                    if one.code == 6:
                        holder = second if one is first else first
                        assert str(holder.pid) in one.said, f"the holder {holder.pid} is not named: {one.said}"
            stage.judge()
            stage.strike()
            return 0

        return act

    kinds = ["reused", *["at once"] * bench.many(8, 1)]
    bench.side_by_side(tally, [job(kind) for kind in kinds])
    return tally


def torn(bench: Bench) -> Tally:
    """The journal's log cut at every byte of its last records, and the file itself."""
    tally = Tally(
        "torn journal",
        "its log cut at each byte of the last two frames, the file at every third of its last 4,200 bytes",
    )
    place = bench.folder / "torn"
    place.mkdir()
    records = [bytes([65 + number]) * (number * 7 % 90) for number in range(40)]

    async def write() -> None:
        journal = Journal(place / "j.db")
        journal.begin("torn")
        for record in records:
            journal.append(record)
            await journal.durable()
        for suffix in ("", "-wal"):
            shutil.copy(place / f"j.db{suffix}", place / f"kept.db{suffix}")
        journal.close()

    trio.run(write)
    shutil.copy(place / "j.db", place / "closed.db")
    wal, whole = place / "kept.db-wal", place / "closed.db"
    most = len(records)
    end = wal.stat().st_size
    for size in range(end, end - 2 * 4200, -bench.many(1, 97)):  # two frames: the last record and the one before it
        os.truncate(wal, size)
        tally.faults += 1
        found = _readable(place / "kept.db", tally)
        if found is not None:
            if found != records[: len(found)] or len(found) > most:
                tally.lost.append(f"log cut at {size}: {len(found)} records, not the first ones")
            most = len(found)
    if not len(records) - 3 <= most < len(records):
        tally.lost.append(f"two frames cut off left {most} of {len(records)} records")
    end = whole.stat().st_size
    for size in range(end - 1, end - 4200, -bench.many(3, 97)):
        os.truncate(whole, size)
        tally.faults += 1
        found = _readable(whole, tally)
        if found is not None and found != records[: len(found)]:
            tally.lost.append(f"file cut at {size}: records that were never written")
    return tally


def _readable(path: Path, tally: Tally) -> list[bytes] | None:
    """The records, or None when the damage has a name."""
    for suffix in ("-shm",):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    try:
        reader = Reader(path)
        try:
            return list(reader.records("r1"))
        finally:
            reader.close()
    except (JournalDamaged, JournalForeign, FileNotFoundError):
        return None
    except Exception as error:
        tally.lost.append(f"{path.name} of {path.stat().st_size} bytes: {type(error).__name__}: {error}")
        return None


CLASSES: Final[dict[str, Callable[[Bench], Tally]]] = {
    "simulation": simulation,
    "failpoints": failpoints,
    "sigkill": sigkill,
    "group": group_kill,
    "git": inside_git,
    "landing": landing,
    "sigterm": sigterm,
    "strace": injected,
    "fsize": fsize,
    "emfile": emfile,
    "full": full_disk,
    "readonly": read_only,
    "clock": clock,
    "two": two_processes,
    "torn": torn,
}


def main() -> int:
    """Run the gate; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a little of each")
    parser.add_argument("--only", action="append", choices=sorted(CLASSES), help="this class (repeatable)")
    parser.add_argument("--seed", type=int, default=None, help="of the random moments (default: another each time)")
    parser.add_argument("--seeds", type=int, default=600, help="how many the simulation plays (default: 600)")
    parser.add_argument("--keep", action="store_true", help="keep the repositories of what was lost")
    flags = parser.parse_args()
    seed = flags.seed if flags.seed is not None else random.randrange(10**6)
    folder = Path(tempfile.mkdtemp(prefix="journeyman-gate-"))
    began = time.monotonic()
    tallies = []
    with contextlib.ExitStack() as stack:
        bench = Bench(folder, random.Random(seed), flags.short, flags.seeds)
        bench.zygotes = [stack.enter_context(Zygote()) for _ in range(2)]
        for name in flags.only or CLASSES:
            start = time.monotonic()
            tally = CLASSES[name](bench)
            tally.seconds = time.monotonic() - start
            tallies.append(tally)
            print(
                f"{tally.name:<22} {tally.faults:>6} {len(tally.lost):>5} {tally.seconds:7.1f} s  {tally.note}",
                file=sys.stderr,
                flush=True,
            )
            for one in tally.lost[:5]:
                print(f"    LOST: {one}", file=sys.stderr, flush=True)
    print(table(tallies))
    real = sum(tally.crashes for tally in tallies if tally.name != "simulation")
    simulated = sum(tally.crashes for tally in tallies if tally.name == "simulation")
    print(f"\n{real} processes killed, {simulated} crashes simulated, in {time.monotonic() - began:.0f} s; seed {seed}")
    lost = sum(len(tally.lost) for tally in tallies)
    if not (lost and flags.keep):
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if lost else 0


def table(tallies: Sequence[Tally]) -> str:
    """The table for people."""
    rows = ["| fault | how | times | crashes | lost |", "|---|---|---|---|---|"]
    for one in tallies:
        what = one.what + (f" ({one.note})" if one.note else "")
        rows.append(f"| {one.name} | {what} | {one.faults} | {one.crashes} | {len(one.lost)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
