"""Requests that may wait for news wait for a second: a fuzzer's time is for requests, not for silence.

What is no number, or out of bounds, stays as it was made: that it is refused is to be seen.
"""

import schemathesis


@schemathesis.hook
def before_call(ctx, case, kwargs):
    query = case.query or {}
    wait = query.get("wait_seconds")
    try:
        seconds = int(wait)
    except (TypeError, ValueError):
        return
    if 1 < seconds <= 60:
        query["wait_seconds"] = 1
