"""Addresses of MLflow: one that holds a secret is refused, and it is never repeated."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.config import ConfigError, on_machine
from unify.support.addresses import (
    hide_addresses,
    kind_of,
    secret_in,
    sqlite_address,
    sqlite_path,
)
from unify.support.environment import redact
from unify.tracking.mlflow_process import store_uri

MARK = "sEcReT"
NETWORK = [
    *("http", "https", "HTTP", "Https"),
    *("postgresql", "postgresql+psycopg2", "mysql+pymysql", "mssql+pyodbc"),
]
hosts = st.sampled_from(["host", "127.0.0.1", "db.example.org", "[::1]", "my_host", "localhost"])
ports = st.sampled_from(["", ":5000", ":65535"])
paths = st.sampled_from(["", "/", "/mlflow", "/a/b-c", "/db%20name", "/d%40b"])
odd = st.text(st.sampled_from("ab1/:@%?#&=+ ~"), max_size=6)  # what a password may hold as it is
secrets = st.builds(lambda a, b, whole: quote(a + MARK + b, safe="") if whole else a + MARK + b,
                    odd, odd, st.booleans())  # fmt: skip


@st.composite
def with_secret(draw) -> str:
    scheme, host, port, path, secret = (
        draw(s) for s in (st.sampled_from(NETWORK), hosts, ports, paths, secrets)
    )
    plain = f"{scheme}://{host}{port}{path}"
    value = quote(secret, safe="")
    forms = [
        f"{scheme}://user:{secret}@{host}{port}{path}",
        f"{scheme}://{secret}@{host}{port}{path}",
        f"{scheme}://:{secret}@{host}{port}{path}",
        f"{plain}?token={value}",
        f"{plain}?a=b&PASSWORD={value}",
        f"{plain}?%74oken={value}",
        f"{plain}#{value}",
        f"sqlite:////data/mlflow.db?passphrase={value}",
        f"sqlite+pysqlcipher://:{value}@/data/mlflow.db",
        f"file://user:{value}@host/data",
        f"user_1:{value}@{host}{port}{path}",
        f"{value}@{host}:5000",
        f"u:{value}@{host}:5000{path}",
        f"\\\\user:{value}@host\\share",
        f"postgresql:/user:{value}@{host}/db",
        f"mysql:user:{value}@{host}/db",
        f"http://user{quote(f':{value}@')}{host}{port}",
        f"{plain}?jwt={value}&a=b",
        f"postgresql://host/db?sslpass={value}",
        f"sqlite:////data/mlflow.db?hexkey={value}",
        f"mssql+pyodbc:///?odbc_connect={quote(f'DRIVER=x;PWD={value}')}",
        f"databricks://user:{value}@host",
        f"redis://:{value}@{host}{port}",
    ]
    return draw(st.sampled_from(forms))


folders = st.lists(st.text(st.sampled_from("abz09.-_@+~ ü#"), min_size=2, max_size=8), min_size=1,
                   max_size=3).map("/".join)  # fmt: skip


@st.composite
def without_secret(draw) -> str:
    scheme, host, port, path, folder = (
        draw(s) for s in (st.sampled_from(NETWORK), hosts, ports, paths, folders)
    )
    forms = [
        f"{scheme}://{host}{port}{path}",
        f"postgresql://{host}{port}/db?sslmode=require&sslkey=/a/client.key&passfile=/a/b",
        f"mysql+pymysql://{host}{port}/db?charset=utf8mb4&read_default_file=/a/my.cnf",
        f"sqlite:////{folder}/mlflow.db",
        f"sqlite:///{folder}.db",
        f"sqlite+pysqlite:////{folder}/x.db?timeout=30",
        f"file:///{folder}",
        f"/{folder}",
        f"./{folder}",
        f"C:\\Users\\{folder}\\mlruns",
        f"d:/{folder}",
        f"sqlite:///C:\\Users\\{folder}\\mlflow.db",
        *("databricks", "databricks://profile", "databricks://scope:prefix", "none", "mlruns"),
        "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/x",
    ]
    return draw(st.sampled_from(forms))


@pytest.mark.fault(45, examples=200)
@settings(max_examples=200, deadline=None)
@given(with_secret())
def test_an_address_with_a_secret_is_refused_and_not_repeated(address):
    held = secret_in(address)
    assert held, address
    with pytest.raises(ConfigError) as refused:
        on_machine({}, [f"machine.tracker={json.dumps(address)}"])
    with pytest.raises(ValueError) as told:
        store_uri(address, "runs")
    for text in (held, str(refused.value), str(told.value)):
        assert MARK not in text
    assert "machine.tracker" in str(refused.value)


@settings(max_examples=200, deadline=None)
@given(without_secret())
def test_an_address_without_one_is_taken_as_it_is(address):
    assert secret_in(address) == ""
    assert on_machine({}, [f"machine.tracker={json.dumps(address)}"])["tracker"] == address
    assert store_uri(address, "runs") == address
    assert hide_addresses(f"cannot open {address}") == f"cannot open {address}"


@pytest.mark.parametrize(
    "word",
    [
        f"machine.tracker: http://user:{MARK}@host",
        f"machine.tracker=[http://user:{MARK}@host]",
        f"machine.tracker={{a: 'http://x/{MARK} @host'}}",
        f"machine=http://{MARK}@host",
        f"machine.trakcer=postgresql://user:a/{MARK}@host/db",
        f"machine.tracker=http://host:{MARK}/",
        f"http://tok/{MARK}@host",
    ],
)
def test_other_mistakes_do_not_repeat_it_either(word):
    with pytest.raises(ConfigError) as refused:
        on_machine({}, [word])
    assert MARK not in str(refused.value)


def test_the_remedy_is_that_of_the_library():
    assert "MLFLOW_TRACKING_TOKEN" in secret_in("https://token@host")
    assert "PGPASSWORD" in secret_in("postgresql+psycopg2://user:a/b@host/db")
    assert "read_default_file" in secret_in("mysql+pymysql://user:a@host/db")
    assert "cannot be read" in secret_in("http://host:port/")
    assert secret_in("http://sk-tracking-server-of-us:5000") == ""
    assert "token" in secret_in("databricks://dapi" + "0123456789abcdef" * 2)


def test_a_text_keeps_its_other_addresses():
    text = "see https://host/page, sqlite:////a/b@c.db and http://me:pw@h:1/x."
    assert hide_addresses(text) == text.replace("me:pw@h:1/x.", "***")
    url = "git+https://github.com/a/b@v1.0"
    assert redact(f"+ {url} postgresql://u:p/w@h/db") == f"+ {url} postgresql://***@h/db"


@pytest.mark.parametrize("path", ["/a b/mlflow.db", "/ü/100%/m.db", "/a%20b/m.db", "/q?x=1/m.db"])
def test_a_database_lies_where_it_is_said_to(path):
    assert sqlite_path(sqlite_address(path)) == path
    assert sqlite_path("sqlite:///:memory:") == sqlite_path("sqlite://") == ""


def test_kinds():
    kinds = {"HTTP://h": "server", "mysql+pymysql://h": "mysql", "a": "folder", "s3://b": "other"}
    assert {address: kind_of(address) for address in kinds} == kinds
    assert kind_of("http://[::1/x") == "server", "what cannot be parsed has its scheme all the same"
