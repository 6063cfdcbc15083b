"""A writer to kill: appends batches to the ledger named by its argument and prints each head that `append` returned."""

import sys

from jobledger.eventstore import SqliteStore
from jobledger.testing.stores import NOW, TTL, new_event

store = SqliteStore.open(sys.argv[1])
lease = store.acquire_lease("writer", now=NOW, ttl=TTL)
while True:
    size = store.head().position % 7 + 1
    head = store.append([new_event(number) for number in range(size)], expected=store.head().position, lease=lease)
    sys.stdout.write(f"{head.position} {head.hash.hex()}\n")
    sys.stdout.flush()
