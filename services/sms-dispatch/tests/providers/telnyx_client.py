"""Sends, fetches and lists a message with Telnyx's own client, and is refused with another key."""

import json
import sys
import time

import telnyx

asked = json.loads(sys.argv[1])
client = telnyx.Telnyx(api_key=asked["key"], base_url=asked["base"], max_retries=0)
sent = client.messages.send(
    from_=asked["from"], to=asked["to"], text="¡Hola, señor!", webhook_url=asked["url"], encoding="gsm7"
).data
records = []
for _ in range(200):
    records = list(client.detail_records.list(filter={"record_type": "messaging", "cld": asked["to"]}))
    if records:
        break
    time.sleep(0.05)
fetched = client.messages.retrieve(sent.id).data
stranger = telnyx.Telnyx(api_key="wrong", base_url=asked["base"], max_retries=0)
try:
    stranger.messages.send(from_=asked["from"], to=asked["to"], text="x")
    refused = None
except telnyx.AuthenticationError as error:
    refused = [error.status_code, error.body["errors"][0]["code"]]
print(json.dumps({
    "sent": {"id": sent.id, "status": sent.to[0].status, "parts": sent.parts},
    "fetched": {"status": fetched.to[0].status, "text": fetched.text},
    "records": [[record.uuid, record.status, record.delivery_status_webhook_url] for record in records],
    "balance": client.balance.retrieve().data.available_credit,
    "refused": refused,
}))
