"""Addresses of MLflow stores: which library reads one, and whether it holds a secret.

    folder      mlruns, C:\\runs, file:///data/mlruns      MLflow itself
    database    sqlite:///mlflow.db, postgresql://host/db  SQLAlchemy's make_url
    server      http://host:5000, https://host/path        requests, which parses by urllib3
    other       databricks://profile, a plug-in's          whoever serves that scheme

An address is written down (config.yaml, MLflow, a report that is shared), so one with a user, a
password or a token is refused before anything is written: each library takes them from elsewhere.
It is parsed as its library parses it, as these differ: SQLAlchemy takes a `/` within a password.
"""

import re
from urllib.parse import unquote, urlsplit

from unify.support.environment import has_token_shape

DATABASES = ("postgresql", "mysql", "sqlite", "mssql")  # what MLflow opens through SQLAlchemy

_SECRET_NAME = re.compile(
    r"token|secret|pass(?!file)|pwd|credential|signature|jwt|bearer|^login$"
    r"|(api|access|account|private|shared|hex)[_.-]?key|^(key|sig|auth|sas|user|user_?name|uid)$",
    re.IGNORECASE,
)
_ASSIGNMENT = re.compile(r"(?:^|[?&;,/{\s])([\w.%-]+)\s*=\s*[^&;,\s]")
# A password may hold a space or a quote: what is no port goes on to the @.
_IN_TEXT = re.compile(r"\b[A-Za-z][\w+.-]*:/+(?:[^\s/@'\"]*:(?!\d+[\s/])[^\n@]{0,80}@)?[^\s'\"]*")
_LEADS = {  # where else a library takes a user and a password from
    "postgresql": "set PGUSER and PGPASSWORD, or write a ~/.pgpass",
    "mysql": "name a file with them by ?read_default_file=",
    "mssql": "name a data source of ODBC instead of the host",
    "server": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
}
_UNREADABLE = "its host and port cannot be read; write scheme://host:port/path"


def kind_of(address: str) -> str:
    """`folder`, `server`, `other` or the name of a database, by the rules of MLflow."""
    try:
        scheme = urlsplit(address).scheme
    except ValueError:  # what stands for the host is none; its scheme is told all the same
        scheme = address.partition(":")[0].strip().lower()
    for database in DATABASES:
        if scheme.startswith(database):
            return database
    if address in ("databricks", "databricks-uc", "uc"):
        return "other"
    if len(scheme) <= 1 or scheme == "file":  # one letter: a drive of Windows
        return "folder"
    return "server" if scheme in ("http", "https") else "other"


def secret_in(address: str) -> str:
    """What an address holds that must not be written down, and the remedy; empty if nothing.

    What cannot be parsed may hold anything. The words never repeat a part of the address.
    """
    text, kind = address.strip(), kind_of(address.strip())
    held = _assigned(text, after_question_mark=kind in ("folder", "sqlite"))
    if not held:
        held = _HOLDS.get(kind, _in_database)(text)
    rest = text.partition("://")[2]
    # the host of a server is no token
    part = rest.partition("/")[2] if kind == "server" else rest or text
    if not held and has_token_shape(part):
        held = "it holds what looks like a token"
    if not held or held == _UNREADABLE:
        return held
    lead = f", and {_LEADS[kind]}" if kind in _LEADS else ""
    return f"{held}, and this address is written down; leave it out{lead}"


def hide_addresses(text: str) -> str:
    """A message in which each address that holds a secret is `scheme://***`."""

    def hide(match: re.Match[str]) -> str:
        whole = match[0].rstrip(".,;:)}>" if "[" in match[0] else ".,;:)]}>")
        return f"{whole.partition(':')[0]}://***" if secret_in(whole) else match[0]

    return _IN_TEXT.sub(hide, text)


def sqlite_path(address: str) -> str:
    """The file of an sqlite address, as SQLAlchemy reads it; empty for one in memory."""
    from sqlalchemy.engine import make_url

    path = make_url(address).database or ""
    return "" if path == ":memory:" or path.startswith("file:") else path


def sqlite_address(path: str) -> str:
    """The address of an sqlite file; what SQLAlchemy would read otherwise is percent-encoded."""
    if "?" in path or unquote(path) != path:
        path = path.replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{path}"


def _assigned(text: str, after_question_mark: bool) -> str:
    """A secret by its name, as in `?token=x`; also where that is percent-encoded, once or twice."""
    for _ in range(3):
        part = text.partition("?")[2] if after_question_mark else text.partition("://")[2]
        names = _ASSIGNMENT.findall(part)
        if any(_SECRET_NAME.search(unquote(unquote(name))) for name in names):
            return "it holds a secret by its name"
        text = unquote(text)
    return ""


def _in_server(text: str) -> str:
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    # A password with a `/` looks like a host and a path; no path needs an @.
    host = text.partition("://")[2].partition("/")[0]
    if "@" in text or "@" in unquote(unquote(host)):
        return "it holds a user, a password or a token before an @ (%40 is the @ of a path)"
    try:
        url = parse_url(text)
    except (LocationParseError, ValueError):
        return _UNREADABLE
    if not url.host or re.search(r"[^\w.:\[\]%-]", url.host):
        return _UNREADABLE
    if url.query or url.fragment:
        return "it holds something after a ? or a #, where MLflow would put its own path"
    return ""


def _in_database(text: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return _UNREADABLE
    if url.password is not None or (url.username and url.drivername.partition("+")[0] != "sqlite"):
        return "it holds a user or a password"
    if kind_of(text) != "sqlite" and re.search("[@#]", text):
        return "it holds an @ or a # (%40 and %23 are those of a name)"
    return ""


def _in_folder(text: str) -> str:
    first, at, _ = text.partition("@")
    authority = re.match(r"\w*:?//[^/]*$", first)  # file://user@host/path
    no_scheme = re.match(r"[^/\\:]{2,}:(?!/)", first)  # user_1:password@host
    share = re.match(r"\\\\[^\\/]*$", first)  # \\user:password@host\share
    port = re.search(r"@[^/\\@]*:\d+(/|$)", text)  # token@host:5000
    held = at and (authority or no_scheme or share or port)
    return "it holds a user or a password" if held else ""


def _in_other(text: str) -> str:
    return "it holds a user, a password or a token before an @" if "@" in text else ""


_HOLDS = {"server": _in_server, "folder": _in_folder, "other": _in_other}
