"""What each field of a spec's traffic means, in the words that an editor shows beside it."""

from __future__ import annotations

from collections.abc import Mapping

_SPACING = "Random instants of that rate (poisson), or evenly spread over it (constant)."
_LOW = "The shortest, in tokens; the distribution is cut off below it."
_HIGH = "The longest, in tokens; the distribution is cut off above it."

TRAFFIC_DESCRIPTIONS: Mapping[str, Mapping[str, str]] = {
    "Traffic": {
        "arrivals": "When requests are sent.",
        "prompt_tokens": "Length of each prompt.",
        "output_tokens": "Length of each answer; the server is told to write exactly as many.",
        "duration_s": "Seconds of schedule; with num_requests, whichever ends first.",
        "num_requests": "Requests in all; with duration_s, whichever ends first.",
        "num_warmup_requests": "Requests sent before, kept and not measured.",
        "seed": "Of arrivals, lengths and prompts.",
        "api": "Which of the server's two interfaces is used.",
        "request_timeout_s": "A request without an answer for so long has failed.",
        "prompts": "What is in the prompts; left out: noise, no two alike.",
        "prompt_form": "Left out: token ids in completions, text in chat.",
        "tokenizer": "A folder with a tokenizer.json: text then has exactly the tokens asked for.",
        "salt": "Any word; prompts share nothing with those of another word.",
        "sessions": "Conversations of several turns; left out: each request stands alone.",
        "models": "Names of models or adapters, each with its weight among the requests.",
        "stream": "false: answers in one piece, so that no token has a time.",
    },
    "ConstantArrivals": {
        "rate_rps": "Requests per second.",
        "kind": "One every 1/rate seconds, whatever the server does.",
    },
    "PoissonArrivals": {
        "rate_rps": "Requests per second, on average.",
        "kind": "At random instants, as independent users send them, whatever the server does.",
    },
    "GammaArrivals": {
        "rate_rps": "Requests per second, on average.",
        "burstiness": "1: as poisson; below: bursts and lulls; above: more even.",
        "kind": "At random instants, more or less bursty than poisson.",
    },
    "PiecewiseArrivals": {
        "segments": "One after the other; the traffic ends with the last.",
        "spacing": _SPACING,
        "kind": "A rate that steps or ramps.",
    },
    "RateSegment": {
        "duration_s": "How long it lasts, in seconds.",
        "rate_rps": "Requests per second at its beginning.",
        "end_rate_rps": "Requests per second at its end, changing evenly; left out: the same.",
    },
    "SpikeArrivals": {
        "rate_rps": "Requests per second between the spikes.",
        "spike_rate_rps": "Requests per second during a spike, in all.",
        "period_s": "Seconds from the beginning of one spike to that of the next.",
        "spike_s": "Seconds that a spike lasts, at the end of each period.",
        "spacing": _SPACING,
        "kind": "A steady rate with spikes at equal distances.",
    },
    "ClosedLoop": {
        "num_users": "How many requests are under way at once.",
        "think_time_s": "Seconds between an answer and the same user's next request.",
        "kind": "Each user waits for its answer before it asks again.",
    },
    "TraceReplay": {
        "path": "The file, on the machine of the load client.",
        "format": "Of the file.",
        "speed": "2: twice as fast as it was recorded.",
        "offset": "Rows passed over at the beginning of the file.",
        "limit": "Rows taken at most; left out: all.",
        "kind": "The arrivals and lengths of a recorded trace.",
    },
    "FixedLength": {"tokens": "Every length, in tokens.", "kind": "All alike."},
    "UniformLength": {
        "low": "The shortest, in tokens.",
        "high": "The longest, in tokens; as likely as every other.",
        "kind": "Every length from low to high alike.",
    },
    "NormalLength": {
        "mean": "Of the whole distribution, in tokens.",
        "std": "Standard deviation of the whole distribution, in tokens.",
        "high": _HIGH,
        "low": _LOW,
        "kind": "A bell around the mean.",
    },
    "LognormalLength": {
        "mean": "Of the tokens in the whole distribution, not of their logarithm.",
        "std": "Standard deviation of the tokens in the whole distribution.",
        "high": _HIGH,
        "low": _LOW,
        "kind": "Many short, few long, as real prompts are.",
    },
    "EmpiricalLength": {
        "values": "The lengths there are, in tokens.",
        "weights": "How often each comes, in any unit; left out: all alike.",
        "kind": "Lengths from a list.",
    },
    "RandomPrompts": {"kind": "Noise; no two prompts begin alike."},
    "SharedPrefixPrompts": {
        "num_groups": "How many prefixes there are.",
        "prompts_per_group": "How many prompts begin with each prefix.",
        "prefix_tokens": "Length of each group's prefix.",
        "question_tokens": "Length of what follows it, which each prompt has alone.",
        "kind": "A pool of prompts in groups that begin alike, for prefix caches.",
    },
    "FilePrompts": {
        "path": "The file, on the machine of the load client.",
        "format": "jsonl: an object per line. sharegpt: a list of conversations.",
        "shuffle": "false: in the order of the file. true: in an order that the seed decides.",
        "kind": "Prompts of your own.",
    },
    "Sessions": {
        "turns": "How many requests a conversation has: a number or a distribution.",
        "think_time_s": "Seconds from an answer to the next turn: a number or a distribution.",
    },
    "UniformTime": {
        "low_s": "The shortest, in seconds.",
        "high_s": "The longest, in seconds; as likely as every other.",
        "kind": "Every time from low_s to high_s alike.",
    },
    "ExponentialTime": {"mean_s": "In seconds.", "kind": "Many short, few long."},
    "LognormalTime": {
        "mean_s": "Of the seconds, not of their logarithm.",
        "std_s": "Standard deviation of the seconds.",
        "kind": "Many around the median, few long.",
    },
}
