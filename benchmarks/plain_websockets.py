"""``websockets.broadcast``, to compare with; it takes no POST.

Usage: ``python -m benchmarks.plain_websockets PORT``
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict

from websockets.asyncio.server import ServerConnection, broadcast, serve

CHANNELS: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def subscribe(connection: ServerConnection) -> None:
    """Subscribe, publish what comes, unsubscribe."""
    assert connection.request is not None
    channel = CHANNELS[connection.request.path]
    channel.add(connection)
    try:
        async for message in connection:
            broadcast(channel, message)
    finally:
        channel.discard(connection)


async def main() -> None:
    """Serve."""
    async with serve(subscribe, "127.0.0.1", int(sys.argv[1]), compression=None, backlog=1024):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
