"""A completed configuration: plain data in which every node has all arguments of its class."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]  # the keys of `schema.experiment.Recipe`
