"""Sends, fetches and lists messages with Twilio's own client, and is refused."""

import datetime
import json
import sys
import time
from urllib.parse import urlsplit, urlunsplit

from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

asked = json.loads(sys.argv[1])
base = urlsplit(asked["base"])


class Here(TwilioHttpClient):
    """The client knows only Twilio's own host: here it is another one."""

    def request(self, method, url, *args, **kwargs):
        there = urlsplit(url)
        url = urlunsplit((base.scheme, base.netloc, there.path, there.query, ""))
        return super().request(method, url, *args, **kwargs)


def client(token):
    return Client(asked["account"], token, http_client=Here())


def refusal(call):
    try:
        call()
        return None
    except TwilioRestException as error:
        return [error.status, error.code]


twilio = client(asked["token"])
sent = twilio.messages.create(
    to=asked["to"], from_=asked["from"], body="¡Hola, señor!", status_callback=asked["url"], validity_period=600
)
for body in ["Dos", "Tres"]:
    twilio.messages.create(to=asked["to"], from_=asked["from"], body=body)
fetched = None
for _ in range(200):
    fetched = twilio.messages(sent.sid).fetch()
    statuses = {message.status for message in twilio.messages.list(to=asked["to"])}
    if statuses == {"delivered"}:
        break
    time.sleep(0.05)
today = datetime.datetime.now(datetime.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
print(json.dumps({
    "sent": {"sid": sent.sid, "status": sent.status, "segments": sent.num_segments},
    "fetched": {"status": fetched.status, "price": fetched.price},
    "listed": [message.sid for message in twilio.messages.list(to=asked["to"], from_=asked["from"], page_size=2)],
    "sent_today": len(twilio.messages.list(to=asked["to"], date_sent_after=today - datetime.timedelta(days=1))),
    "balance": twilio.balance.fetch().balance,
    "refused": [
        refusal(lambda: client("wrong").messages.create(to=asked["to"], from_=asked["from"], body="x")),
        refusal(lambda: twilio.messages.create(to="12", from_=asked["from"], body="x")),
    ],
}))
