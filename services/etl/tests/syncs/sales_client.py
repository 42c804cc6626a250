"""Reads the users' views with the driver that their own code has."""

import json
import sys

import pymysql
from urllib.parse import urlsplit

url = urlsplit(json.loads(sys.argv[1])["url"])
connection = pymysql.connect(
    host=url.hostname, port=url.port, user=url.username, password=url.password, database=url.path.strip("/"), charset="utf8mb4"
)
views = ["cliente", "producto", "documento_venta", "detalle_documento"]
said = {}
with connection.cursor(pymysql.cursors.DictCursor) as cursor:
    for view in views:
        cursor.execute(f"SELECT * FROM {view} ORDER BY 1")
        rows = cursor.fetchall()
        columns = [column[0] for column in cursor.description]
        said[view] = {"columns": columns, "rows": [{name: str(value) for name, value in row.items()} for row in rows]}
print(json.dumps(said))
