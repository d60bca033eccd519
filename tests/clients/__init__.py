"""Websocket and HTTP clients written by others, against a Pinghub in a process of its own.

One suite of cases (:mod:`tests.clients.cases`) and a thin adapter for each client. The Python
clients are the packages ``websockets``, ``aiohttp``, ``websocket-client`` and ``curl_cffi``;
``npm install`` in ``tests/clients/node`` gets the others. A client that is not there is
skipped, with a line that says how to get it.
"""
