"""The type of a completed config: plain data in which each node has all arguments of its class."""

from typing import Any

Config = dict[str, Any]  # the keys of `schema.experiment.Recipe`
