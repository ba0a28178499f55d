"""vLLM's log, line by line, and the rules by which each release's is read.

Log lines drift between releases: each release has its own rules, chosen by the version that the
log announces. A log of a version newer than all of them is read with the newest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``process`` is ``APIServer``, ``EngineCore``, ``Worker_TP0`` …; empty where not said."""

    stamp_s: float
    process: str
    pid: str
    is_vllm: bool  # has vLLM's own prefix (uvicorn's and libraries' lines have not)
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """One line tells a phase's end and its length, in group ``s``."""

    phase: str
    line: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """A line of a process begins the phase, a later line of the same process ends it."""

    phase: str
    begin: re.Pattern[str]
    end: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the log of one release is read. ``since`` is the first version that logs so."""

    since: tuple[int, int]
    took: tuple[Took, ...]
    between: tuple[Between, ...]
    kv_cache_size: re.Pattern[str]
    max_concurrency: re.Pattern[str]


_SECONDS = r"(?P<s>\d+(?:\.\d+)?)"
ENGINE_INIT = re.compile(r"Initializing an? (?:V\d )?LLM engine \(v(?P<version>[^)]+)\)")
ENGINE_READY = re.compile(rf"init engine \(profile.*?\) took {_SECONDS} s(?:econds)?\b")
STARTING_SERVER = re.compile(r"Starting vLLM (?:API )?server\b")
SERVER_READY = re.compile(r"Application startup complete\.")
KV_CACHE_MEMORY = re.compile(r"Available KV cache memory: (?P<gib>[\d.]+) GiB")
CAPTURED = re.compile(rf"Graph capturing finished in {_SECONDS} secs")


def _took(phase: str, pattern: str) -> Took:
    return Took(phase=phase, line=re.compile(pattern.replace("SECONDS", _SECONDS)))


_TOOK_ALWAYS = (
    _took("download weights", r"Time spent downloading weights for .+: SECONDS seconds"),
    _took("load weights", r"Loading weights took SECONDS seconds"),
    _took("compile: dynamo", r"Dynamo bytecode transform time: SECONDS s"),
    _took("compile: JAX", r"Compilation of .+ finished in SECONDS \[secs\]"),
    Took(phase="capture graphs", line=CAPTURED),
    Took(phase="profile, KV cache, warm-up", line=ENGINE_READY),
)
_BETWEEN_ALWAYS = (
    Between(
        phase="engine init",
        begin=ENGINE_INIT,
        end=ENGINE_READY,
    ),
)

_OLDER = Rules(
    since=(0, 0),
    took=(
        *_TOOK_ALWAYS,
        _took("load model", r"Model loading took [\d.]+ (?:GiB|GB) and SECONDS seconds"),
        _took("compile", r"torch\.compile takes SECONDS s in total"),
        _took("compile graph", r"Compiling a graph for .*takes SECONDS s"),
        _took("load compiled", r"Directly load the compiled graph.*took SECONDS s"),
    ),
    between=_BETWEEN_ALWAYS,
    kv_cache_size=re.compile(r"KV cache size: (?P<tokens>[\d,]+) tokens"),
    max_concurrency=re.compile(r"Maximum concurrency for [\d,]+ tokens per request: (?P<n>[\d.]+)"),
)
_V0_32 = Rules(
    since=(0, 32),
    took=(
        *_TOOK_ALWAYS,
        _took("initialize model", r"Initializing model took SECONDS seconds"),
        _took("load model", r"Model loading took [\d.]+ GiB memory and SECONDS seconds"),
        _took("compile", r"torch\.compile took SECONDS s in total"),
        _took("compile graph", r"Compiling a graph for compile range .+ takes SECONDS s"),
        _took("load compiled", r"Directly load the compiled graph\(s\) .+ took SECONDS s"),
        _took(
            "compile and first run",
            r"torch\.compile and initial profiling/warmup run together took SECONDS s in total",
        ),
        _took("first run", r"Initial profiling/warmup run took SECONDS s"),
        _took("quantize", r"Online quantization as part of model loading took SECONDS seconds"),
    ),
    between=(
        *_BETWEEN_ALWAYS,
        Between(  # the CPU backend announces no length
            phase="warm-up",
            begin=re.compile(r"Warming up model for the compilation"),
            end=re.compile(r"Warming up done\."),
        ),
        Between(
            phase="compile",
            begin=re.compile(r"Warming up model for the compilation"),
            end=re.compile(r"saved AOT compiled function to"),
        ),
    ),
    kv_cache_size=re.compile(r"^\S+(?: \+ host)? KV cache size: (?P<tokens>[\d,]+) tokens,"),
    max_concurrency=re.compile(r"Maximum concurrency for [\d,]+ tokens per request: (?P<n>[\d.]+)"),
)
# 0.33 changed no line of a startup's phases; it can drop the checkpoint from the page cache.
_V0_33 = Rules(
    since=(0, 33),
    took=_V0_32.took,
    between=_V0_32.between,
    kv_cache_size=_V0_32.kv_cache_size,
    max_concurrency=_V0_32.max_concurrency,
)
_NEWEST_FIRST = (_V0_33, _V0_32, _OLDER)


_PREFIX = re.compile(
    r"(?:\((?P<process>[A-Za-z]\S*)(?: [^)]*?)?pid=(?P<pid>\d+)\)\s)?\s*"
    r"(?P<head>(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d "
    r"(?:\[[^\]]+:\d+\]|\S+:\d+\])\s?)?(?P<text>.*)",
    re.DOTALL,
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def parse_log(lines: list[tuple[float, str]]) -> list[Line]:
    parsed = []
    for stamp_s, raw in lines:
        text = _ANSI.sub("", raw).rstrip("\n")
        match = _PREFIX.match(text)
        assert match is not None  # every part of the pattern is optional
        parsed.append(
            Line(
                stamp_s=stamp_s,
                process=match["process"] or "",
                pid=match["pid"] or "",
                is_vllm=match["head"] is not None,
                text=match["text"],
            )
        )
    return parsed


_SERVER_VERSION = re.compile(
    r"(?:vLLM (?:API )?server version |█\s+version )(?P<version>\d+\.\d+[^\s,]*)"
)


def announced_version(lines: list[Line]) -> str:
    for line in lines:
        match = ENGINE_INIT.search(line.text) or _SERVER_VERSION.search(line.text)
        if match:
            return match["version"]
    return ""


def rules_for(version: str) -> Rules:
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        return _NEWEST_FIRST[0]
    announced = (int(match[1]), int(match[2]))
    if "dev" in version and announced < (0, 2):
        return _NEWEST_FIRST[0]  # 0.1.dev…: built from a checkout without its tags
    return next(rules for rules in _NEWEST_FIRST if rules.since <= announced)
