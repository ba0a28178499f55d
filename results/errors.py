"""Errors of ``results``.

ResultsError
├── UnknownMetric        a measurement names a metric that the registry does not have
├── InvalidMeasurement   a value outside its metric's legal range, or an interval that excludes it
├── InvalidSlo           a text that is no service level objective
├── InvalidStopRule      a text that is no rule for stopping
├── InvalidQuestion      a question to the recommendations that cannot be meant
├── RecordFormatError    a record's text is not a record, or of a schema newer than this program
├── ForeignFormatError   another tool's file is not a result that ``results.interop`` knows
├── NotExportable        a record has not what the other format must have, or may not be passed on
├── LookupUnreadable     the table of recommendations is not there, or not one
├── NotDeployable        a profile from which no manifest can be made
├── CannotListen         the lookup's address is taken, not ours, or no address
├── NotComparable        runs were asked different things, or are the same runs
├── NothingSelected      a text names no run of the store, or names more than one kind of thing
└── StoreError           the store cannot do what was asked
    ├── DuplicateRecord  a run id that is already sealed
    ├── RecordNotFound   no record of that id (or prefix)
    └── StoreUnwritable  read-only, full, or not there
"""

from __future__ import annotations


class ResultsError(Exception):
    """Root of the package's errors. Positional arguments only, so that each survives pickling."""


class UnknownMetric(ResultsError):
    pass


class InvalidMeasurement(ResultsError):
    pass


class InvalidSlo(ResultsError):
    pass


class InvalidStopRule(ResultsError):
    pass


class InvalidQuestion(ResultsError):
    pass


class RecordFormatError(ResultsError):
    pass


class ForeignFormatError(ResultsError):
    pass


class NotExportable(ResultsError):
    pass


class LookupUnreadable(ResultsError):
    pass


class NotDeployable(ResultsError):
    pass


class CannotListen(ResultsError):
    pass


class NotComparable(ResultsError):
    pass


class NothingSelected(ResultsError):
    pass


class StoreError(ResultsError):
    pass


class DuplicateRecord(StoreError):
    pass


class RecordNotFound(StoreError):
    pass


class StoreUnwritable(StoreError):
    pass
