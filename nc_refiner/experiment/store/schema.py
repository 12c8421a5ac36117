"""The tables of an experiment, in SQLAlchemy Core; `migrations/` brings a database to this state."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, MetaData, String, Table, Text

__all__ = [
    "TABLES",
    "dead_letters",
    "errors",
    "exposures",
    "identity",
    "measurements",
    "metadata",
    "requests",
    "studies",
    "switches",
    "votes",
]

metadata = MetaData()


def _key() -> Column[str]:
    # Made by the writer, so that a row written twice is one row.
    return Column("id", String(64), primary_key=True)


def _at() -> Column[float]:
    return Column("at", Float(53), nullable=False, comment="seconds since the epoch (UTC)")


requests = Table(
    "requests",
    metadata,
    _key(),
    Column("experiment", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("assigned", Text, nullable=False, comment="the arm the unit was given"),
    Column("served", Text, comment="the arm whose output was returned; null if the request failed"),
    Column("role", String(16), nullable=False, comment="live or shadow"),
    Column("reason", String(16), nullable=False, comment="split, flag, holdout, layer, ramp, default, off"),
    Column("weight", Float(53)),
    Column("pair", String(64)),
    Column("seed", BigInteger),
    Column("seconds", Float(53), nullable=False),
    Column("receipt", JSON),
    _at(),
    Index("requests_by_time", "experiment", "at"),
)

exposures = Table(
    "exposures",
    metadata,
    _key(),
    Column("experiment", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("arm", Text, nullable=False),
    Column("weight", Float(53)),
    _at(),
    Index("exposures_by_time", "experiment", "at"),
)

measurements = Table(
    "measurements",
    metadata,
    _key(),
    Column("experiment", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("arm", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("value", Float(53), nullable=False),
    Column("request", String(64)),
    Column("pair", String(64)),
    Column("seed", BigInteger),
    _at(),
    Index("measurements_by_time", "experiment", "at"),
)

errors = Table(
    "errors",
    metadata,
    _key(),
    Column("experiment", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("arm", Text, nullable=False),
    Column("request", String(64), nullable=False),
    Column("kind", String(16), nullable=False, comment="raised, nan, time, memory, busy, caller"),
    Column("message", Text, nullable=False),
    _at(),
    Index("errors_by_time", "experiment", "at"),
)

switches = Table(
    "switches",
    metadata,
    _key(),
    Column("experiment", Text, nullable=False),
    Column("arm", Text, nullable=False, comment="empty: the whole experiment"),
    Column("is_on", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    _at(),
    Index("switches_by_time", "experiment", "at"),
)

votes = Table(
    "votes",
    metadata,
    _key(),
    Column("study", Text, nullable=False),
    Column("rater", Text, nullable=False),
    Column("pair", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("choice", Text, nullable=False, comment="the arm that was preferred, or tie"),
    Column("left_arm", Text, nullable=False),
    Column("seconds", Float(53), nullable=False, comment="from shown to answered"),
    _at(),
    Column("right_arm", Text, nullable=False, server_default=""),
    Column("clip", Text, nullable=False, server_default="", comment="what the pair was cut from; pairs of one depend"),
    Index("votes_by_time", "study", "at"),
)

studies = Table(
    "studies",
    metadata,
    _key(),
    Column("study", Text, nullable=False),
    Column("seed", BigInteger, nullable=False, comment="of sides and orders"),
    Column("secret", String(64), nullable=False, comment="key of the names that clips have in a browser"),
    Column("settings", JSON, nullable=False, comment="arms, control, items with the digests of their clips"),
    _at(),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    _key(),
    Column("experiment", Text, nullable=False, server_default="", comment="as far as the record says"),
    Column("reason", Text, nullable=False, comment="why the database does not take it"),
    Column("record", Text, nullable=False, comment="JSON of its rows"),
    _at(),
)

WHAT_IDENTITY_IS = "made with the database: tells it from any that takes its place"
identity = Table(
    "identity",
    metadata,
    Column("id", String(64), primary_key=True),
    Column(
        "value", String(64), nullable=False, comment="made with the database: tells it from any that takes its place"
    ),
)

TABLES = dict(metadata.tables)
