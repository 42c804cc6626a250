"""Reads a table with Google's own client: all of its pages, and what lies between two moments."""

import datetime
import json
import sys

from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

asked = json.loads(sys.argv[1])
client = bigquery.Client(
    project="proyecto", credentials=AnonymousCredentials(), client_options=ClientOptions(api_endpoint=asked["url"])
)


def plain(value):
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value if value is None or isinstance(value, int) else str(value)


def rows(sql, parameters=()):
    config = bigquery.QueryJobConfig(query_parameters=list(parameters))
    found = client.query(sql, job_config=config).result(page_size=asked["page"])
    return [{name.lower(): plain(value) for name, value in row.items()} for row in found]


moment = lambda name: bigquery.ScalarQueryParameter(name, "TIMESTAMP", datetime.datetime.fromisoformat(asked[name]))
table = f"`proyecto.cobranzas.{asked['table']}`"
print(json.dumps({
    "all": rows(f"SELECT * FROM {table}"),
    "between": rows(
        f"SELECT * FROM {table} WHERE `date` >= @desde AND `date` < @hasta", [moment("desde"), moment("hasta")]
    ),
}))
